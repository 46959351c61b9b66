// Rows of K, or of V, into the slots of a paged cache.
//   input [rows, heads, head_dim] float32, rows `inputStride` and heads `inputHeadStride` apart; batch.slots [rows];
//   cache [pages, page_size, heads, head_dim] in any order and stored type.
// A thread stores eight channels: grid (heads · head_dim / 8 / 64, rows).
#include "elements.cuh"
#include "pages.cuh"

KERNEL(append, AppendParameters, 64) {
  letNextStart();
  const unsigned chunks = p.headDim / 8, at = blockIdx.x * 64 + threadIdx.x, row = blockIdx.y;
  waitForPrevious();
  if (at >= p.heads * chunks || row >= p.header->rows) return;
  const unsigned head = at / chunks, chunk = at % chunks;
  const CacheRow to = rowOfSlot(p.addressing, *p.header, p.batch[p.header->slotsAt + row], head);
  const size_t from = static_cast<size_t>(row) * p.inputStride + p.inputOffset + head * p.inputHeadStride;
  const Eight eight = eightAt(FLOAT32, p.input, from / 8 + chunk);
  storeEight(p.format, p.cache, (p.holdsValues ? to.value : to.key) + chunk, eight);
}
