// Reads a buffer once, 16 bytes at a time: what the memory can give.
//   input [chunks] of 16 bytes; output [1]. Any grid.
#include "parameters.cuh"
#include "device.cuh"

KERNEL(read_bandwidth, ReadParameters, 256) {
  unsigned bits = 0;
  const size_t step = static_cast<size_t>(gridDim.x) * 256;
  size_t i = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x;
  // Eight loads on their way at a time.
  for (; i + 7 * step < p.chunks; i += 8 * step) {
    uint4 raw[8];
#pragma unroll
    for (int k = 0; k < 8; k++) raw[k] = loadOnce(p.input + i + k * step);
#pragma unroll
    for (int k = 0; k < 8; k++) bits ^= raw[k].x ^ raw[k].y ^ raw[k].z ^ raw[k].w;
  }
  for (; i < p.chunks; i += step) {
    const uint4 raw = loadOnce(p.input + i);
    bits ^= raw.x ^ raw.y ^ raw.z ^ raw.w;
  }
  // Seldom true, but the compiler cannot know that.
  if (bits == 0x12345678u) p.output[0] = bits;
}
