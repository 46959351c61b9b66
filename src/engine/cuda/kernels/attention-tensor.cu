// Attention of ragged query rows over paged or ragged keys, on tensor cores: queries and the exponentials of the scores are
// rounded to the type of the cache, which is of 16 bits; scores, their maximum and their sum are float32.
//   query [rows, heads, head_dim] in any stored type and strides; keys, values: caches; batch.tiles: pairs (sequence, first of
//   64 query rows); output [rows, heads, head_dim] in float32; narrow, the same rounded to the cache's type, or null; lse
//   [rows, heads] in base 2, minus infinity where a row sees no key.
// Causal masks are aligned at the bottom right: query i of a sequence sees key j when j - i <= kv_len - qo_len.
// A block takes 64 query rows of HEADS query heads that share their keys, tile after tile of 64 keys (32 of the longest
// heads) from the first on, the next one on its way: grid (kvHeads · parts of a group, tiles).
#include "parameters.cuh"
#include "pages.cuh"
#include "softmax.cuh"
#include "tensor.cuh"

// Heads are filled up with zeros to CHANNELS.
template <int FORMAT, int CHANNELS, int HEADS>
__device__ __forceinline__ void attendTiles(const TensorAttendParameters& p) {
  constexpr int KEYS = CHANNELS == 256 ? 32 : 64, PER = CHANNELS / 8, M = HEADS;
  // Registers for all queries of a warp, where they fit beside the sums.
  constexpr bool HELD = HEADS * CHANNELS <= 128;
  constexpr unsigned TILE = KEYS * PER;
  LAUNCHED_SHARED(queries);
  __shared__ CacheRow rowOf[2][KEYS];
  uint4* const tiles = queries + HEADS * 64 * PER;
  letNextStart();
  const AttentionParameters& a = p.addressing;
  const unsigned thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const unsigned parts = (p.group + HEADS - 1) / HEADS;
  const unsigned kvHead = blockIdx.x / parts, firstHead = kvHead * p.group + blockIdx.x % parts * HEADS;
  const unsigned allHeads = gridDim.x / parts * p.group, endOfGroup = (kvHead + 1) * p.group;
  waitForPrevious();
  const BatchHeader& header = *p.header;
  const unsigned sequence = p.batch[header.tilesAt + 2 * blockIdx.y];
  const int first = p.batch[header.tilesAt + 2 * blockIdx.y + 1];
  const unsigned row0 = p.batch[header.qoIndptrAt + sequence];
  const int count = p.batch[header.qoIndptrAt + sequence + 1] - static_cast<int>(row0);
  const unsigned firstPage = p.batch[header.kvIndptrAt + sequence];
  const int length = p.batch[header.kvLengthAt + sequence];
  // Position of query 0; negative where there are more queries than keys.
  const int position0 = length - count, last = min(first + 63, count - 1);

  for (unsigned i = thread; i < HEADS * 64 * PER; i += 128) {
    const unsigned line = i / PER, chunk = i % PER, head = firstHead + line / 64;
    const int q = first + static_cast<int>(line % 64);
    Eight eight = {};
    if (q < count && head < endOfGroup && chunk * 8 < p.headDim) {
      const size_t at = a.queryOffset + static_cast<size_t>(row0 + q) * a.queryRowStride + head * a.queryHeadStride;
      eight = eightAt(p.queryFormat, p.query, at / 8 + chunk);
    }
    queries[placeOf<PER>(line, chunk)] = rawOf(FORMAT, eight).low;
  }

  // Keys that some row of the block sees, from the beginning of a tile on.
  const int end = a.causal ? min(length, position0 + last + 1) : length;
  const int begin = a.windowLeft >= 0 ? max(0, position0 + first - a.windowLeft) : 0;
  const int firstTile = begin / KEYS, endTile = end > begin ? (end + KEYS - 1) / KEYS : firstTile;
  const auto locate = [&](int tile) {
    const int position = tile * KEYS + static_cast<int>(thread);
    if (thread < KEYS && position < length) {
      rowOf[tile % 2][thread] = rowOfPosition(a, header, p.batch, p.pageSize, firstPage, position, kvHead);
    }
  };
  const auto fetch = [&](int tile) {
    uint4* const to = tiles + tile % 2 * 2 * TILE;
#pragma unroll
    for (unsigned i = thread; i < TILE; i += 128) {
      const unsigned line = i / PER, chunk = i % PER;
      const bool has = tile * KEYS + static_cast<int>(line) < length && chunk * 8 < p.headDim;
      const CacheRow from = has ? rowOf[tile % 2][line] : CacheRow{};
      copyLater(to + placeOf<PER>(line, chunk), static_cast<const uint4*>(p.keys) + from.key + chunk, has);
      copyLater(to + TILE + placeOf<PER>(line, chunk), static_cast<const uint4*>(p.values) + from.value + chunk, has);
    }
  };
  if (firstTile < endTile) locate(firstTile);
  __syncthreads();
  if (firstTile < endTile) {
    fetch(firstTile);
    locate(firstTile + 1);
  }
  endCopies();

  // Rows of this warp in the block's queries: with two heads 32 of one of them, with one 16.
  const unsigned ownRow = warp * M * 16;
  // Keys [from, to) of the rows lane / 4 and lane / 4 + 8 of each matrix.
  int from[M][2], to[M][2];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int position = position0 + first + static_cast<int>((ownRow + m * 16 + half * 8 + lane / 4) % 64);
      from[m][half] = a.windowLeft >= 0 ? position - a.windowLeft : 0;
      to[m][half] = a.causal ? min(length, position + 1) : length;
    }
  }
  // Tiles without a mask: those that every row of the block sees from their first key to their last.
  const int seenFrom = a.windowLeft >= 0 ? position0 + last - a.windowLeft : 0;
  const int seenTo = a.causal ? min(length, position0 + first + 1) : length;
  const float scale = a.scale * 1.4426950408889634f;

  unsigned held[HELD ? PER / 2 : 1][M][4];
  if constexpr (HELD) {
#pragma unroll
    for (int k = 0; k < PER / 2; k++) {
#pragma unroll
      for (int m = 0; m < M; m++) leftOperand<PER>(held[k][m], queries, ownRow + m * 16, 2 * k);
    }
  }
  float sums[M][CHANNELS / 8][4] = {}, top[M][2], total[M][2] = {};
#pragma unroll
  for (int m = 0; m < M; m++) top[m][0] = top[m][1] = NOTHING;
  for (int tile = firstTile; tile < endTile; tile++) {
    waitForCopies<0>();
    // The tile is there, and where the next one lies; everybody is done with the tile before.
    __syncthreads();
    if (tile + 1 < endTile) fetch(tile + 1);
    endCopies();
    if (tile + 2 < endTile) locate(tile + 2);
    const uint4 *keys = tiles + tile % 2 * 2 * TILE, *values = keys + TILE;

    float scores[M][KEYS / 8][4] = {};
#pragma unroll
    for (int k = 0; k < PER / 2; k++) {
      unsigned query[M][4];
#pragma unroll
      for (int m = 0; m < M; m++) {
        if constexpr (HELD) {
#pragma unroll
          for (int i = 0; i < 4; i++) query[m][i] = held[k][m][i];
        } else {
          leftOperand<PER>(query[m], queries, ownRow + m * 16, 2 * k);
        }
      }
#pragma unroll
      for (int n = 0; n < KEYS / 16; n++) {
        unsigned key[4];
        rightOperands<PER>(key, keys, n * 16, 2 * k);
#pragma unroll
        for (int m = 0; m < M; m++) {
          multiply<FORMAT>(scores[m][2 * n], query[m], key[0], key[1]);
          multiply<FORMAT>(scores[m][2 * n + 1], query[m], key[2], key[3]);
        }
      }
    }

    const bool masked = tile * KEYS < seenFrom || (tile + 1) * KEYS > seenTo;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float most = top[m][half];
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) {
          float& score = scores[m][i / 2][half * 2 + i % 2];
          if (a.softCap > 0.f) score = scoreOf(score, a.scale, a.softCap);
          else score *= scale;
          if (masked) {
            const int key = tile * KEYS + i / 2 * 8 + static_cast<int>(lane % 4) * 2 + i % 2;
            if (key < from[m][half] || key >= to[m][half]) score = NOTHING;
          }
          most = fmaxf(most, score);
        }
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        // A row that has seen no key yet takes none: 2^NOTHING is 0.
        const float base = most == NOTHING ? 0.f : most;
        const float shrink = powerOfTwo(top[m][half] - base);
        top[m][half] = most;
        total[m][half] *= shrink;
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) {
          float& score = scores[m][i / 2][half * 2 + i % 2];
          score = powerOfTwo(score - base);
          total[m][half] += score;
        }
#pragma unroll
        for (int n = 0; n < CHANNELS / 8; n++) {
          sums[m][n][half * 2] *= shrink;
          sums[m][n][half * 2 + 1] *= shrink;
        }
      }
    }

#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
      unsigned weight[M][4];
#pragma unroll
      for (int m = 0; m < M; m++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float(&pair)[4] = scores[m][2 * k + i / 2];
          weight[m][i] = pairOf<FORMAT>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < CHANNELS / 16; n++) {
        unsigned value[4];
        rightRows<PER>(value, values, k * 16, 2 * n);
#pragma unroll
        for (int m = 0; m < M; m++) {
          multiply<FORMAT>(sums[m][2 * n], weight[m], value[0], value[1]);
          multiply<FORMAT>(sums[m][2 * n + 1], weight[m], value[2], value[3]);
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float sum = sumOverLanes<4>(total[m][half]);
      const unsigned line = ownRow + m * 16 + half * 8 + lane / 4, head = firstHead + line / 64;
      const int q = first + static_cast<int>(line % 64);
      if (q >= count || head >= endOfGroup) continue;
      const bool empty = sum == 0.f;
      const float share = 1.f / sum;
      const size_t to = static_cast<size_t>(row0 + q) * allHeads + head;
      if (lane % 4 == 0) p.lse[to] = empty ? __uint_as_float(0xff800000u) : top[m][half] + log2f(sum);
#pragma unroll
      for (int n = 0; n < CHANNELS / 8; n++) {
        if (n * 8 >= p.headDim) continue;
        const size_t at = (to * p.headDim + n * 8) / 2 + lane % 4;
        const float low = empty ? 0.f : sums[m][n][half * 2] * share, high = empty ? 0.f : sums[m][n][half * 2 + 1] * share;
        if (p.output) p.output[at] = make_float2(low, high);
        if (p.narrow) p.narrow[at] = pairOf<FORMAT>(low, high);
      }
    }
  }
}

#define ATTENTION_TENSOR(NAME, FORMAT, CHANNELS, HEADS)                                   \
  KERNEL(attention_tensor_##NAME##_##CHANNELS##_##HEADS, TensorAttendParameters, 128) {   \
    attendTiles<FORMAT, CHANNELS, HEADS>(p);                                              \
  }
#define ATTENTION_TENSORS(NAME, FORMAT)     \
  ATTENTION_TENSOR(NAME, FORMAT, 64, 1)     \
  ATTENTION_TENSOR(NAME, FORMAT, 128, 1)    \
  ATTENTION_TENSOR(NAME, FORMAT, 128, 2)    \
  ATTENTION_TENSOR(NAME, FORMAT, 256, 1)

ATTENTION_TENSORS(bfloat16, BFLOAT16)
ATTENTION_TENSORS(float16, FLOAT16)
