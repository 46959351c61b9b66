// output[n] = Σ_k input[k] · weights[n, k] of one row, at the speed at which weights are read: a lane holds weights of its
// next AHEAD chunks, the first of them from before the kernel before this one has ended, and takes the row from shared
// memory.
//   input [columns], or the last row of a sequence; weights [n, columns] from row `firstRow` on; output [outputs].
// Before it: RMSNorm with gain [columns] (the gain goes to the row, 1/rms to the finished sum), or the merge of split
// attention: input [heads, splits, head_dim] with lse [heads, splits] in base 2.
// After it: bias [n], residual [outputs], or SiLU(gate) · up, where weights are `outputs` gate rows, then as many up.
// A warp takes WEIGHT_ROWS weight rows (gated: a gate row with its up row) at a time, and then those that are a grid away.
// Grid (at most weight rows / WEIGHT_ROWS / 8).
#include "parameters.cuh"
#include "activation.cuh"
#include "elements.cuh"
#include "sums.cuh"

constexpr unsigned ROW_THREADS = 256, ROW_WARPS = ROW_THREADS / 32;
// Splits of attention that are merged on the way: all of them are asked for at once.
constexpr unsigned MERGED_SPLITS = 8;

// Four channels of merged attention: Σ_s 2^(lse_s - max) · state_s / Σ_s 2^(lse_s - max); 0 where no split saw a key.
__device__ __forceinline__ float4 mergedQuad(const ProductParameters& p, unsigned splits, unsigned quad) {
  const unsigned perHead = p.headDim / 4;
  const size_t first = static_cast<size_t>(quad / perHead) * splits;
  float lse[MERGED_SPLITS], top = -3e38f, total = 0.f;
  float4 state[MERGED_SPLITS], merged = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
  for (unsigned s = 0; s < MERGED_SPLITS; s++) {
    lse[s] = s < splits ? p.lse[first + s] : -3e38f;
    state[s] = s < splits ? p.input[(first + s) * perHead + quad % perHead] : merged;
  }
#pragma unroll
  for (unsigned s = 0; s < MERGED_SPLITS; s++) top = fmaxf(top, lse[s]);
#pragma unroll
  for (unsigned s = 0; s < MERGED_SPLITS; s++) {
    const float weight = s < splits ? exp2f(lse[s] - top) : 0.f;
    total += weight;
    merged.x = fmaf(weight, state[s].x, merged.x);
    merged.y = fmaf(weight, state[s].y, merged.y);
    merged.z = fmaf(weight, state[s].z, merged.z);
    merged.w = fmaf(weight, state[s].w, merged.w);
  }
  const float scale = top < -1e37f ? 0.f : 1.f / total;
  return make_float4(merged.x * scale, merged.y * scale, merged.z * scale, merged.w * scale);
}

template <int FORMAT, int WEIGHT_ROWS, int AHEAD, bool MERGES>
__device__ __forceinline__ void rowProduct(const ProductParameters& p) {
  // Columns that are in shared memory at a time: whole rounds of a warp.
  constexpr unsigned ROW_TILE = AHEAD % 3 == 0 ? 3072 : 2048;
  // Even quads of a chunk in one half, odd ones in the other: lanes side by side read 16 bytes side by side.
  __shared__ float4 row[2][ROW_TILE / 8];
  __shared__ float squaresOf[ROW_WARPS];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, chunks = p.columns / 8;
  // Gated products have the up row of output n behind all gate rows.
  const unsigned perWarp = p.gated ? 1 : WEIGHT_ROWS, apart = p.gated ? p.outputs : 1;
  const unsigned stride = gridDim.x * ROW_WARPS * perWarp;
  const unsigned ofBlock = blockIdx.x * ROW_WARPS * perWarp, ofWarp = warp * perWarp;
  const auto weightRow = [&](unsigned first, int r) {
    return (p.firstRow + (p.gated ? first + r * apart : min(first + r, p.outputs - 1))) * static_cast<size_t>(chunks);
  };
  Raw<FORMAT> weights[AHEAD][WEIGHT_ROWS];
#pragma unroll
  for (int r = 0; r < WEIGHT_ROWS; r++) {
    const size_t from = weightRow(min(ofBlock + ofWarp, p.outputs - 1), r);
#pragma unroll
    for (unsigned a = 0; a < AHEAD; a++) {
      const unsigned chunk = a * 32 + lane;
      weights[a][r] = chunk < chunks ? weightsAt<FORMAT>(p.weights, from + chunk) : Raw<FORMAT>{};
    }
  }
  // Only now, so that these weights are on their way before those of the next kernel.
  letNextStart();
  // Neither the header nor where a sequence's rows end changes within the launches of one batch.
  const unsigned splits = MERGES ? p.header->splitCount : 0;
  const unsigned inputRow = p.lastRows ? p.batch[p.header->qoIndptrAt + 1] - 1 : 0;
  const float4* input = p.input + static_cast<size_t>(inputRow) * (p.columns / 4);
  // Gains come from afar: weights have pushed them out of the cache since the last token.
  const bool hasFirst = p.gain && threadIdx.x < 2 * chunks;
  const float4 firstGain = hasFirst ? p.gain[threadIdx.x] : make_float4(0.f, 0.f, 0.f, 0.f);
  waitForPrevious();

  float square = 0.f, scale = 1.f;
  // Up to ROW_TILE columns the row is laid out once, and its squares are summed with it.
  const bool once = p.columns <= ROW_TILE;
  bool first = true;
  for (unsigned begin = ofBlock; begin < p.outputs; begin += stride, first = false) {
    float sums[WEIGHT_ROWS] = {};
    const unsigned n0 = begin + ofWarp, n = n0 + (p.gated ? 0 : lane % WEIGHT_ROWS);
    const bool finishes = lane < perWarp && n < p.outputs;
    // What is added is on its way meanwhile.
    const float added = p.residual && finishes ? p.residual[n] : 0.f;
    const unsigned biasAt = p.firstRow + n0 + (lane % WEIGHT_ROWS) * apart;
    const float bias = p.bias && lane < WEIGHT_ROWS && n < p.outputs ? p.bias[biasAt] : 0.f;
    for (unsigned tile = 0; tile < chunks; tile += ROW_TILE / 8) {
      const unsigned end = min(chunks, tile + ROW_TILE / 8);
      if (first || !once) {
        if (!first || tile > 0) __syncthreads();
        for (unsigned quad = 2 * tile + threadIdx.x; quad < 2 * end; quad += ROW_THREADS) {
          float4 x = MERGES ? mergedQuad(p, splits, quad) : input[quad];
          if (p.gain) {
            const float4 gain = quad == threadIdx.x ? firstGain : p.gain[quad];
            if (first) square += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
            x = make_float4(x.x * gain.x, x.y * gain.y, x.z * gain.z, x.w * gain.w);
          }
          row[quad % 2][quad / 2 - tile] = x;
        }
        if (p.gain && first && end == chunks) {
          const float squares = sumOverLanes<32>(square);
          if (lane == 0) squaresOf[warp] = squares;
        }
        __syncthreads();
      }
      for (unsigned base = tile; base < end; base += 32 * AHEAD) {
        // Where the weights lie that take the place of those that are used now.
        const bool within = base + 32 * AHEAD < chunks;
        const unsigned nextRow = within ? min(n0, p.outputs - 1) : n0 + stride, nextBase = within ? base + 32 * AHEAD : 0;
#pragma unroll
        for (unsigned a = 0; a < AHEAD; a++) {
          const unsigned chunk = base + a * 32 + lane, next = nextBase + a * 32 + lane;
          const bool counts = chunk < end;
          const float4 low = counts ? row[0][chunk - tile] : make_float4(0.f, 0.f, 0.f, 0.f);
          const float4 high = counts ? row[1][chunk - tile] : make_float4(0.f, 0.f, 0.f, 0.f);
          const Eight x = {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
#pragma unroll
          for (int r = 0; r < WEIGHT_ROWS; r++) {
            if (counts) sums[r] = dot(eightOf<FORMAT>(weights[a][r]), x, sums[r]);
            if (nextRow < p.outputs && next < chunks) {
              weights[a][r] = weightsAt<FORMAT>(p.weights, weightRow(nextRow, r) + next);
            }
          }
        }
      }
    }
    if (p.gain && first) {
      float total = 0.f;
#pragma unroll
      for (unsigned w = 0; w < ROW_WARPS; w++) total += squaresOf[w];
      scale = rsqrtf(total / static_cast<float>(p.columns) + p.epsilon);
    }
    float value = sumOfLane(sums) * scale + bias;
    if (WEIGHT_ROWS == 2 && p.gated) value = silu(value) * __shfl_xor_sync(0xffffffffu, value, 1);
    if (finishes) p.output[p.outputOffset + n] = value + added;
  }
}

// Two rows of a warp have four chunks each ahead, one row alone eight or twelve: what leaves room for the next kernel's blocks.
#define ROW_PRODUCTS(NAME, FORMAT) \
  KERNEL(row_product_##NAME##_1, ProductParameters, 256) { rowProduct<FORMAT, 1, FORMAT == FLOAT32 ? 6 : 12, false>(p); } \
  KERNEL_OF_BLOCKS(row_product_##NAME##_2, ProductParameters, 256, 4) { rowProduct<FORMAT, 2, FORMAT == FLOAT32 ? 2 : 4, false>(p); } \
  KERNEL(row_product_##NAME##_merge, ProductParameters, 256) { rowProduct<FORMAT, 1, FORMAT == FLOAT32 ? 4 : 8, true>(p); }

ROW_PRODUCTS(bfloat16, BFLOAT16)
ROW_PRODUCTS(float16, FLOAT16)
ROW_PRODUCTS(float32, FLOAT32)
