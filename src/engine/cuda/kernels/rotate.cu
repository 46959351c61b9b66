// RoPE of the heads of one value.
//   input [rows, heads, head_dim], rows `inputStride` apart; batch.positions [rows]; angles [positions, head_dim / 2]
//   (cos, sin); output [rows, heads, head_dim] in any stored type.
// A thread makes eight channels: grid (heads · head_dim / 8 / 64, rows).
#include "parameters.cuh"
#include "rotation.cuh"

KERNEL(rotate, RotateParameters, 64) {
  letNextStart();
  const unsigned chunks = p.headDim / 8, at = blockIdx.x * 64 + threadIdx.x, row = blockIdx.y;
  waitForPrevious();
  if (at >= p.heads * chunks || row >= p.header->rows) return;
  const unsigned head = at / chunks;
  const float2* angles = p.angles + static_cast<size_t>(p.batch[p.header->positionsAt + row]) * (p.headDim / 2);
  const float* input = p.input + static_cast<size_t>(row) * p.inputStride + p.inputOffset + head * p.headDim;
  const Eight rotated = rotatedEight(input, nullptr, angles, p.headDim, at % chunks, 1.f);
  storeEight(p.format, p.output, static_cast<size_t>(row) * p.heads * chunks + at, rotated);
}
