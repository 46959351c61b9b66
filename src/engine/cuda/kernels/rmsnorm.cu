// y = x / sqrt(mean(x²) + epsilon) · gain over groups of `width` channels, a multiple of four: a whole row, or a head of it
// (QK-norm).
//   input, output [rows, groups, width], rows `inputStride` and `outputStride` elements apart, whole float4s; gain [width];
//   narrow [rows, groups, width], the same rounded to `format`, of 16 bits; output or narrow may be null.
// A block takes one group of one row: grid (groups, rows).
#include "elements.cuh"
#include "parameters.cuh"
#include "sums.cuh"

KERNEL(rmsnorm, NormParameters, 128) {
  letNextStart();
  const size_t from = static_cast<size_t>(blockIdx.y) * p.inputStride + p.inputOffset + blockIdx.x * p.width;
  const size_t to = static_cast<size_t>(blockIdx.y) * p.outputStride + p.outputOffset + blockIdx.x * p.width;
  const float4* input = reinterpret_cast<const float4*>(p.input + from);
  waitForPrevious();
  float squares = 0.f;
  for (unsigned i = threadIdx.x; i < p.width / 4; i += 128) {
    const float4 x = input[i];
    squares = fmaf(x.x, x.x, fmaf(x.y, x.y, fmaf(x.z, x.z, fmaf(x.w, x.w, squares))));
  }
  const float scale = rsqrtf(sumOverBlock<128>(squares) / static_cast<float>(p.width) + p.epsilon);
  for (unsigned i = threadIdx.x; i < p.width / 4; i += 128) {
    const float4 x = input[i];
    const float* gain = p.gain + p.gainOffset + 4 * i;
    const float4 y = make_float4(x.x * scale * gain[0], x.y * scale * gain[1], x.z * scale * gain[2], x.w * scale * gain[3]);
    if (p.output) reinterpret_cast<float4*>(p.output + to)[i] = y;
    if (p.narrow) {
      const size_t group = static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x;
      p.narrow[group * (p.width / 4) + i] =
          p.format == FLOAT16 ? make_uint2(halfPair(y.x, y.y), halfPair(y.z, y.w))
                              : make_uint2(bfloat16Pair(y.x, y.y), bfloat16Pair(y.z, y.w));
    }
  }
}
