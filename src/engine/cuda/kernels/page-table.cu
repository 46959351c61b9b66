// The page table of the keys that sequences have now, in FlashInfer's words: batch.kvIndptr also counts pages that a
// sequence may grow into.
//   batch.kvLength [sequences]; batch.kvIndptr [sequences + 1], batch.kvIndices; indptr [sequences + 1],
//   indices [indptr[sequences]], lastPageLen [sequences]: 1 to page_size, 0 without keys.
// A warp takes a sequence: grid (sequences).
#include "parameters.cuh"
#include "device.cuh"

KERNEL(page_table, PageTableParameters, 32) {
  letNextStart();
  const unsigned sequence = blockIdx.x, lane = threadIdx.x;
  waitForPrevious();
  const BatchHeader& header = *p.header;
  const int* lengths = p.batch + header.kvLengthAt;
  const unsigned pageSize = header.pageSize;
  unsigned first = 0;
  for (unsigned s = lane; s < sequence; s += 32) first += (lengths[s] + pageSize - 1) / pageSize;
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) first += __shfl_xor_sync(0xffffffffu, first, apart);
  const unsigned length = lengths[sequence], pages = (length + pageSize - 1) / pageSize;
  const int* from = p.batch + header.kvIndicesAt + p.batch[header.kvIndptrAt + sequence];
  for (unsigned i = lane; i < pages; i += 32) p.indices[first + i] = from[i];
  if (lane != 0) return;
  if (sequence == 0) p.indptr[0] = 0;
  p.indptr[sequence + 1] = first + pages;
  p.lastPageLen[sequence] = pages == 0 ? 0 : length - (pages - 1) * pageSize;
}
