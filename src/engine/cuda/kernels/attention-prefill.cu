// Attention of ragged query rows over paged or ragged keys.
//   query [rows, heads, head_dim] in any stored type and strides; keys, values: caches; batch.tiles: pairs (sequence, first of
//   64 query rows); output [rows, heads, head_dim]; lse [rows, heads] in base 2, minus infinity where a row sees no key.
// Causal masks are aligned at the bottom right: query i of a sequence sees key j when j - i <= kv_len - qo_len.
// A warp takes one query row at a time with HEADS heads: grid (kvHeads · parts of a group, tiles).
#include "parameters.cuh"
#include "attention.cuh"

template <int LANES, int HEADS>
__device__ __forceinline__ void prefill(const AttendParameters& p) {
  letNextStart();
  const AttentionParameters& a = p.addressing;
  const unsigned parts = (p.group + HEADS - 1) / HEADS;
  const unsigned kvHead = blockIdx.x / parts, part = blockIdx.x % parts;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, chunk = lane % LANES, chunks = p.headDim / 8;
  const unsigned firstHead = kvHead * p.group + part * HEADS, allHeads = gridDim.x / parts * p.group;
  const int heads = min(HEADS, static_cast<int>(p.group - part * HEADS));
  waitForPrevious();
  const BatchHeader& header = *p.header;
  const unsigned sequence = p.batch[header.tilesAt + 2 * blockIdx.y], first = p.batch[header.tilesAt + 2 * blockIdx.y + 1];
  const unsigned row0 = p.batch[header.qoIndptrAt + sequence];
  const unsigned queries = p.batch[header.qoIndptrAt + sequence + 1] - row0;
  const unsigned firstPage = p.batch[header.kvIndptrAt + sequence];
  const int length = p.batch[header.kvLengthAt + sequence];
  for (unsigned q = first + warp; q < min(first + 64, queries); q += 4) {
    // Negative where there are more queries than keys.
    const int position = length - static_cast<int>(queries) + static_cast<int>(q);
    const int end = p.addressing.causal ? min(length, position + 1) : length;
    const int begin = a.windowLeft >= 0 ? max(0, position - a.windowLeft) : 0;
    const size_t row = row0 + q;
    Eight query[HEADS] = {};
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      if (h >= heads || chunk >= chunks) continue;
      const size_t at = a.queryOffset + row * a.queryRowStride + (firstHead + h) * a.queryHeadStride;
      query[h] = eightAt(p.queryFormat, p.query, at / 8 + chunk);
    }
    Softmax<HEADS> state = emptySoftmax<HEADS>();
    constexpr unsigned GROUPS = 32 / LANES;
    for (int from = begin; from < end; from += AT_ONCE * GROUPS) {
      AskedKeys asked;
      const unsigned own = from + lane / LANES;
      askForKeys(asked, p, p.cacheFormat, LANES, firstPage, kvHead, own, GROUPS, end, Newest().position);
      takeAsked<LANES, HEADS>(state, query, p, p.cacheFormat, asked, own, GROUPS, end, Newest());
    }
    joinWarp<LANES, HEADS>(state);
    if (lane >= chunks) continue;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      if (h >= heads) continue;
      const bool empty = state.sum[h] == 0.f;
#pragma unroll
      for (int i = 0; i < 8; i++) state.value[h].x[i] = empty ? 0.f : state.value[h].x[i] / state.sum[h];
      const size_t to = row * allHeads + firstHead + h;
      storeEight(FLOAT32, p.output, to * chunks + chunk, state.value[h]);
      if (chunk == 0) p.lse[to] = empty ? __uint_as_float(0xff800000u) : state.top[h] + log2f(state.sum[h]);
    }
  }
}

#define PREFILL(LANES, HEADS) \
  KERNEL(attention_prefill_##LANES##_##HEADS, AttendParameters, 128) { prefill<LANES, HEADS>(p); }
ATTENTION_VARIANTS(PREFILL)
