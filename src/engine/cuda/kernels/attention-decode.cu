// Attention of one query row per sequence over a part (split) of its keys; states that a merge joins are left.
//   query [rows, heads, head_dim] in any stored type and strides; keys, values: paged caches; output [rows, heads, splits,
//   head_dim] normalised, lse [rows, heads, splits] in base 2, NOTHING for a split without keys.
// A block takes HEADS query heads of one KV head: grid (splits, kvHeads · parts of a group, sequences).
//
// With `angles` it also does what comes before: `query` is then the packed row q | k | v [rows, (heads + 2 kvHeads) ·
// head_dim]; QK-norm (`gains` [2, head_dim]) and RoPE are applied, and the block that has the newest position appends its K
// and V. For captures rotated q [rows, heads, head_dim] and k [rows, kvHeads, head_dim] are left too.
//
// All positions but the newest were written by earlier batches: their keys are asked for before the kernel before this one
// has ended.
#include "parameters.cuh"
#include "attention.cuh"
#include "rotation.cuh"

constexpr unsigned WARPS = 8;

// Of a cache whose elements have CACHE_BYTES.
template <int CACHE_BYTES, int LANES, int HEADS>
__device__ __forceinline__ void decode(const AttendParameters& p) {
  __shared__ float top[WARPS][HEADS], sum[WARPS][HEADS];
  __shared__ float4 value[WARPS][HEADS][2 * LANES];
  __shared__ float4 turned[HEADS][2 * LANES];
  __shared__ AnyRaw newestRow[2][LANES];
  letNextStart();
  const unsigned format = CACHE_BYTES == 4 ? FLOAT32 : min(p.cacheFormat, 1u);
  const AttentionParameters& a = p.addressing;
  const unsigned parts = (p.group + HEADS - 1) / HEADS;
  const unsigned split = blockIdx.x, kvHead = blockIdx.y / parts, part = blockIdx.y % parts, sequence = blockIdx.z;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, chunk = lane % LANES, chunks = p.headDim / 8;
  const unsigned firstHead = kvHead * p.group + part * HEADS;
  const int heads = min(HEADS, static_cast<int>(p.group - part * HEADS));
  const bool hasChannels = chunk < chunks;
  const BatchHeader& header = *p.header;
  const unsigned row = p.batch[header.qoIndptrAt + sequence];
  const bool hasRow = static_cast<unsigned>(p.batch[header.qoIndptrAt + sequence + 1]) != row;
  const unsigned length = p.batch[header.kvLengthAt + sequence], firstPage = p.batch[header.kvIndptrAt + sequence];
  unsigned begin = split * header.splitTokens;
  const unsigned end = hasRow ? min(begin + header.splitTokens, length) : 0;
  if (a.windowLeft >= 0) begin = max(begin, length - min(length, static_cast<unsigned>(a.windowLeft) + 1));
  const bool hasNewest = begin < end && end == length;
  Newest newest;
  newest.position = length - 1;

  constexpr unsigned STEP = WARPS * (32 / LANES);
  unsigned own = begin + warp * (32 / LANES) + lane / LANES;
  AskedKeys asked;
  askForKeys(asked, p, format, LANES, firstPage, kvHead, own, STEP, end, newest.position);
  // A warp prepares a head: the queries', then the key's; the last has the value.
  static_assert(HEADS + 2 <= WARPS, "every head of a block has a warp");
  const bool isQuery = warp < HEADS, isKey = warp == HEADS, isValue = warp == HEADS + 1;
  const bool prepares = p.angles && lane < chunks && (isQuery ? static_cast<int>(warp) < heads : isKey || isValue);
  TurningPart gain;
  Turns turns;
  if (prepares && !isValue) {
    turns = turnsAt(p.angles + static_cast<size_t>(length - 1) * (p.headDim / 2), p.headDim, lane);
    if (p.gains) gain = turningPartAt(p.gains + (isKey ? p.headDim : 0), p.headDim, lane);
  }
  waitForPrevious();
  if (!hasRow) return;

  Eight query[HEADS] = {};
  if (p.angles) {
    const float* packed = static_cast<const float*>(p.query) + static_cast<size_t>(row) * a.queryRowStride;
    const size_t kvHeads = gridDim.y / parts, kept = (row * kvHeads + kvHead) * chunks + lane;
    const bool appends = hasNewest && part == 0;
    if (isQuery || isKey) {
      const unsigned column = isKey ? p.keyColumn + kvHead * p.headDim : (firstHead + warp) * p.headDim;
      TurningPart input = prepares ? turningPartAt(packed + column, p.headDim, lane) : TurningPart{};
      if (p.gains) {
        const Eight x = ownOf(input);
        const float squares = sumOverLanes<LANES>(dot(x, x, 0.f));
        input = times(times(input, rsqrtf(squares / static_cast<float>(p.headDim) + p.epsilon)), gain);
      }
      const Eight rotated = prepares ? rotatedPart(input, turns, p.headDim, lane) : Eight{};
      if (lane < LANES && isQuery) storeEight(FLOAT32, turned[warp], lane, rotated);
      if (prepares && isQuery && hasNewest && p.rotated) {
        const size_t to = (row * kvHeads * p.group + firstHead + warp) * chunks + lane;
        storeEight(FLOAT32, p.rotated, to, rotated);
      }
      if (prepares && isKey) {
        newestRow[0][lane] = rawOf(format, rotated);
        if (appends && p.rotatedKeys) storeEight(FLOAT32, p.rotatedKeys, kept, rotated);
      }
    } else if (prepares) {
      newestRow[1][lane] = rawOf(format, eightAt(FLOAT32, packed + p.valueColumn + kvHead * p.headDim, lane));
    }
    if (prepares && !isQuery && appends) {
      const CacheRow to = rowOfPosition(a, header, p.batch, p.pageSize, firstPage, length - 1, kvHead);
      storeRaw(format, isKey ? p.keys : p.values, (isKey ? to.key : to.value) + lane, newestRow[isKey ? 0 : 1][lane]);
    }
    __syncthreads();
    if (hasChannels) {
#pragma unroll
      for (int h = 0; h < HEADS; h++) query[h] = floatsAt(turned[h], chunk);
      newest.key = newestRow[0][chunk];
      newest.value = newestRow[1][chunk];
    }
  } else if (hasChannels) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      if (h >= heads) continue;
      const size_t at = a.queryOffset + static_cast<size_t>(row) * a.queryRowStride + (firstHead + h) * a.queryHeadStride;
      query[h] = eightAt(p.queryFormat, p.query, at / 8 + chunk);
    }
    if (hasNewest) {
      const CacheRow from = rowOfPosition(a, header, p.batch, p.pageSize, firstPage, length - 1, kvHead);
      newest.key = anyRawAt(format, p.keys, from.key + chunk);
      newest.value = anyRawAt(format, p.values, from.value + chunk);
    }
  }

  Softmax<HEADS> state = emptySoftmax<HEADS>();
  for (unsigned round = begin; round < end; round += AT_ONCE * STEP, own += AT_ONCE * STEP) {
    takeAsked<LANES, HEADS>(state, query, p, format, asked, own, STEP, end, newest);
    askForKeys(asked, p, format, LANES, firstPage, kvHead, own + AT_ONCE * STEP, STEP, end, newest.position);
  }
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
  KERNEL(attention_decode_16_##LANES##_##HEADS, AttendParameters, 256) { decode<2, LANES, HEADS>(p); } \
  KERNEL(attention_decode_32_##LANES##_##HEADS, AttendParameters, 256) { decode<4, LANES, HEADS>(p); }
ATTENTION_VARIANTS(DECODE)
