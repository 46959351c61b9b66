// Rows rounded to 16 bits, as tensor cores take them.
//   input [rows, columns] in float32; output [rows, columns] in bfloat16 or float16.
// A thread takes eight elements: grid (columns / 8 / 128, rows).
#include "parameters.cuh"
#include "elements.cuh"

KERNEL(narrow, NarrowParameters, 128) {
  letNextStart();
  const unsigned chunks = p.columns / 8, chunk = blockIdx.x * 128 + threadIdx.x;
  if (chunk >= chunks) return;
  waitForPrevious();
  const size_t at = static_cast<size_t>(blockIdx.y) * chunks + chunk;
  storeEight(p.format, p.output, at, floatsAt(p.input, at));
}
