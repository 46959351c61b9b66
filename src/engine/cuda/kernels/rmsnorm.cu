// y = x / sqrt(mean(x²) + epsilon) · gain over groups of `width` channels: a whole row, or a head of it (QK-norm).
//   input, output [rows, groups, width], rows `inputStride` and `outputStride` elements apart; gain [width].
// A block takes one group of one row: grid (groups, rows).
#include "parameters.cuh"
#include "sums.cuh"

KERNEL(rmsnorm, NormParameters, 128) {
  letNextStart();
  const float* input = p.input + static_cast<size_t>(blockIdx.y) * p.inputStride + p.inputOffset + blockIdx.x * p.width;
  float* output = p.output + static_cast<size_t>(blockIdx.y) * p.outputStride + p.outputOffset + blockIdx.x * p.width;
  waitForPrevious();
  float squares = 0.f;
  for (unsigned i = threadIdx.x; i < p.width; i += 128) squares = fmaf(input[i], input[i], squares);
  const float scale = rsqrtf(sumOverBlock<128>(squares) / static_cast<float>(p.width) + p.epsilon);
  for (unsigned i = threadIdx.x; i < p.width; i += 128) output[i] = input[i] * scale * p.gain[p.gainOffset + i];
}
