// output[row, channel] = table[token of row, channel], as float32.
//   batch.tokenIds [rows]; weights [vocabulary, columns] in any stored type; output [rows, columns].
// A thread makes eight channels: grid (columns / 8 / 64, rows).
#include "parameters.cuh"
#include "elements.cuh"

KERNEL(embedding, EmbeddingParameters, 64) {
  letNextStart();
  const unsigned chunks = p.columns / 8;
  const unsigned chunk = blockIdx.x * 64 + threadIdx.x, row = blockIdx.y;
  waitForPrevious();
  if (chunk >= chunks || row >= p.header->rows) return;
  const unsigned token = min(static_cast<unsigned>(p.batch[p.header->tokenIdsAt + row]), p.vocabulary - 1);
  const Eight eight = eightAt(p.format, p.weights, static_cast<size_t>(token) * chunks + chunk);
  storeEight(FLOAT32, p.output, static_cast<size_t>(row) * chunks + chunk, eight);
}
