// Attention of one query row per sequence over a part (split) of its keys; states that a merge joins are left.
//   query [rows, heads, head_dim] in any stored type and strides; keys, values: paged caches; output [rows, heads, splits,
//   head_dim] normalised, lse [rows, heads, splits] in base 2, NOTHING for a split without keys.
// A block takes HEADS query heads of one KV head: grid (splits, kvHeads · parts of a group, sequences).
//
// With `angles` it also does what comes before: `query` is then the packed row q | k | v [rows, (heads + 2 kvHeads) ·
// head_dim]; QK-norm (`gains` [2, head_dim]) and RoPE are applied, and the block that has the newest position appends its K
// and V. For captures rotated q [rows, heads, head_dim] and k [rows, kvHeads, head_dim] are left too.
#include "parameters.cuh"
#include "attention.cuh"
#include "rotation.cuh"

constexpr unsigned WARPS = 4;

// 1/rms of a head of float32, by the LANES lanes that share it.
template <int LANES>
__device__ __forceinline__ float headScale(const AttendParameters& p, const float* head, unsigned chunk) {
  const Eight x = chunk < p.headDim / 8 ? eightAt(FLOAT32, head, chunk) : Eight{};
  const float squares = sumOverLanes<LANES>(dot(x, x, 0.f));
  return p.gains ? rsqrtf(squares / static_cast<float>(p.headDim) + p.epsilon) : 1.f;
}

template <int LANES, int HEADS>
__device__ __forceinline__ void decode(const AttendParameters& p) {
  __shared__ float top[WARPS][HEADS], sum[WARPS][HEADS];
  __shared__ float4 value[WARPS][HEADS][2 * LANES];
  letNextStart();
  const AttentionParameters& a = p.addressing;
  const unsigned parts = (p.group + HEADS - 1) / HEADS;
  const unsigned split = blockIdx.x, kvHead = blockIdx.y / parts, part = blockIdx.y % parts, sequence = blockIdx.z;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, chunk = lane % LANES, chunks = p.headDim / 8;
  const unsigned firstHead = kvHead * p.group + part * HEADS;
  const int heads = min(HEADS, static_cast<int>(p.group - part * HEADS));
  const bool hasChannels = chunk < chunks;
  waitForPrevious();
  const BatchHeader& header = *p.header;
  const unsigned row = p.batch[header.qoIndptrAt + sequence];
  if (static_cast<unsigned>(p.batch[header.qoIndptrAt + sequence + 1]) == row) return;
  const unsigned length = p.batch[header.kvLengthAt + sequence], firstPage = p.batch[header.kvIndptrAt + sequence];
  unsigned begin = split * header.splitTokens;
  const unsigned end = min(begin + header.splitTokens, length);
  if (a.windowLeft >= 0) begin = max(begin, length - min(length, static_cast<unsigned>(a.windowLeft) + 1));

  Eight query[HEADS] = {};
  Newest newest;
  if (p.angles) {
    const float* packed = static_cast<const float*>(p.query) + static_cast<size_t>(row) * a.queryRowStride;
    const float2* angles = p.angles + static_cast<size_t>(length - 1) * (p.headDim / 2);
    const bool owns = begin < end && end == length && warp == 0 && lane < chunks;
    newest.position = length - 1;
#pragma unroll
    for (int h = 0; h <= HEADS; h++) {
      if (h < HEADS && h >= heads) continue;
      const float* head = packed + (h < HEADS ? (firstHead + h) * p.headDim : p.keyColumn + kvHead * p.headDim);
      const float* gain = p.gains && h == HEADS ? p.gains + p.headDim : p.gains;
      const float scale = headScale<LANES>(p, head, chunk);
      if (!hasChannels) continue;
      const Eight rotated = rotatedEight(head, gain, angles, p.headDim, chunk, scale);
      if (h < HEADS) {
        query[h] = rotated;
        if (owns && p.rotated) {
          const size_t to = (static_cast<size_t>(row) * (gridDim.y / parts) * p.group + firstHead + h) * chunks + chunk;
          storeEight(FLOAT32, p.rotated, to, rotated);
        }
        continue;
      }
      const Eight own = eightAt(FLOAT32, packed + p.valueColumn + kvHead * p.headDim, chunk);
      newest.key = rawOf(p.cacheFormat, rotated);
      newest.value = rawOf(p.cacheFormat, own);
      if (!owns || part != 0) continue;
      const CacheRow to = rowOfPosition(a, header, p.batch, p.pageSize, firstPage, length - 1, kvHead);
      storeRaw(p.cacheFormat, p.keys, to.key + chunk, newest.key);
      storeRaw(p.cacheFormat, p.values, to.value + chunk, newest.value);
      if (p.rotatedKeys) {
        const size_t at = (static_cast<size_t>(row) * (gridDim.y / parts) + kvHead) * chunks + chunk;
        storeEight(FLOAT32, p.rotatedKeys, at, rotated);
      }
    }
  } else if (hasChannels) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      if (h >= heads) continue;
      const size_t at = a.queryOffset + static_cast<size_t>(row) * a.queryRowStride + (firstHead + h) * a.queryHeadStride;
      query[h] = eightAt(p.queryFormat, p.query, at / 8 + chunk);
    }
  }

  Softmax<HEADS> state = emptySoftmax<HEADS>();
  const unsigned groups = 32 / LANES;
  takeKeys<LANES, HEADS>(state, query, p, firstPage, kvHead, begin, end, warp * groups + lane / LANES, WARPS * groups,
                         newest);
  joinWarp<LANES, HEADS>(state);
  if (lane < LANES) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      top[warp][h] = state.top[h];
      sum[warp][h] = state.sum[h];
      storeEight(FLOAT32, value[warp][h], chunk, state.value[h]);
    }
  }
  __syncthreads();

  for (unsigned i = threadIdx.x; i < heads * chunks; i += 32 * WARPS) {
    const unsigned h = i / chunks, c = i % chunks;
    float greatest = NOTHING, total = 0.f;
#pragma unroll
    for (unsigned w = 0; w < WARPS; w++) greatest = fmaxf(greatest, top[w][h]);
    Eight joined = {};
#pragma unroll
    for (unsigned w = 0; w < WARPS; w++) {
      const float weight = exp2f(top[w][h] - greatest);
      const Eight share = eightAt(FLOAT32, value[w][h], c);
      total += weight * sum[w][h];
#pragma unroll
      for (int k = 0; k < 8; k++) joined.x[k] += weight * share.x[k];
    }
    // No key at all leaves a sum of 0, and NaN a sum of NaN.
    const bool empty = total == 0.f;
#pragma unroll
    for (int k = 0; k < 8; k++) joined.x[k] = empty ? 0.f : joined.x[k] / total;
    const unsigned allHeads = gridDim.y / parts * p.group;
    const size_t to = (static_cast<size_t>(row) * allHeads + firstHead + h) * header.splitCount + split;
    storeEight(FLOAT32, p.output, to * chunks + c, joined);
    if (c == 0) p.lse[to] = empty ? NOTHING : greatest + log2f(total);
  }
}

#define DECODE(LANES, HEADS) \
  KERNEL(attention_decode_##LANES##_##HEADS, AttendParameters, 128) { decode<LANES, HEADS>(p); }
ATTENTION_VARIANTS(DECODE)
