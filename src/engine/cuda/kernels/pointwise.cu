// output = silu(a), a · b, a + b or factor · a, by `operation` 0, 1, 2, 3.
//   first, second [rows, columns], rows `firstStride` and `secondStride` apart; output [rows, columns]. There is a row per
// token, or one per sequence. A thread makes one channel: grid (columns / 128, rows).
#include "parameters.cuh"
#include "activation.cuh"

KERNEL(pointwise, PointwiseParameters, 128) {
  letNextStart();
  const unsigned channel = blockIdx.x * 128 + threadIdx.x, row = blockIdx.y;
  waitForPrevious();
  if (channel >= p.columns || row >= (p.perSequence ? p.header->sequences : p.header->rows)) return;
  const float a = p.first[static_cast<size_t>(row) * p.firstStride + p.firstOffset + channel];
  float value = p.operation == 3 ? p.factor * a : silu(a);
  if (p.operation == 1 || p.operation == 2) {
    const float b = p.second[static_cast<size_t>(row) * p.secondStride + p.secondOffset + channel];
    value = p.operation == 1 ? a * b : a + b;
  }
  p.output[static_cast<size_t>(row) * p.columns + channel] = value;
}
