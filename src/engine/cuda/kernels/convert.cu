// Rows of one element type as dense rows of another.
//   input [rows, columns], rows `inputStride` apart from `inputOffset` on; output [rows, columns] dense.
// A thread takes eight channels: grid (columns / 8 / 64, rows).
#include "parameters.cuh"
#include "elements.cuh"

KERNEL(convert, ConvertParameters, 64) {
  letNextStart();
  const unsigned chunks = p.columns / 8, at = blockIdx.x * 64 + threadIdx.x;
  const size_t row = blockIdx.y;
  waitForPrevious();
  if (at >= chunks) return;
  const Eight eight = eightAt(p.inputFormat, p.input, (row * p.inputStride + p.inputOffset) / 8 + at);
  storeEight(p.outputFormat, p.output, row * chunks + at, eight);
}
