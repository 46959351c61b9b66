// output[row, n] = Σ_k input[row, k] · weights[n, k] for few rows: every weight is read once, 16 bytes at a time, and the
// first of them before the kernel before this one has ended.
//   input [rows, columns]; weights [n, columns] from row `firstRow` on; output [rows, outputs], rows `outputStride` apart.
// Before it: RMSNorm with gain [columns] (the gain goes to the input, 1/rms to the finished sum, so it needs no barrier).
// After it: bias [n], residual [rows, outputs], or SiLU(gate) · up, where weights are `outputs` gate rows, then as many up.
// A warp takes WEIGHT_ROWS weight rows (gated: a gate row with its up row) and ROWS input rows; warps share nothing, and
// each lane finishes one of a warp's products.
// Grid (weight rows / WEIGHT_ROWS / 4, rows / ROWS). With `lastRows` the rows are the last of every sequence (lm_head).
#include "parameters.cuh"
#include "activation.cuh"
#include "elements.cuh"
#include "sums.cuh"

// Chunks of a lane on their way at a time.
constexpr unsigned AHEAD = 4;

template <int FORMAT, int WEIGHT_ROWS, int ROWS>
__device__ __forceinline__ void product(const ProductParameters& p) {
  letNextStart();
  const unsigned lane = threadIdx.x % 32, warp = blockIdx.x * 4 + threadIdx.x / 32;
  const unsigned chunks = p.columns / 8;
  // Gated products have the up row of output n behind all gate rows.
  const unsigned perWarp = p.gated ? 1 : WEIGHT_ROWS, step = p.gated ? p.outputs : 1;
  const unsigned n0 = warp * perWarp;
  if (n0 >= p.outputs) return;
  size_t weightRow[WEIGHT_ROWS];
#pragma unroll
  for (int r = 0; r < WEIGHT_ROWS; r++) {
    weightRow[r] = (p.firstRow + (p.gated ? n0 + r * step : min(n0 + r, p.outputs - 1))) * static_cast<size_t>(chunks);
  }
  Raw<FORMAT> weights[AHEAD][WEIGHT_ROWS];
#pragma unroll
  for (unsigned a = 0; a < AHEAD; a++) {
    const unsigned chunk = a * 32 + lane;
#pragma unroll
    for (int r = 0; r < WEIGHT_ROWS; r++) {
      weights[a][r] = chunk < chunks ? weightsAt<FORMAT>(p.weights, weightRow[r] + chunk) : Raw<FORMAT>{};
    }
  }
  waitForPrevious();
  const unsigned count = p.lastRows ? p.header->sequences : p.header->rows;
  const unsigned row0 = blockIdx.y * ROWS;
  unsigned from[ROWS];
#pragma unroll
  for (int c = 0; c < ROWS; c++) {
    const unsigned row = min(row0 + c, count - 1);
    from[c] = p.lastRows ? p.batch[p.header->qoIndptrAt + row + 1] - 1 : row;
  }
  // Each lane finishes one product: weight row r, input row c. What is added to it is on its way meanwhile.
  const unsigned r = lane / ROWS, c = lane % ROWS, row = row0 + c, n = n0 + (p.gated ? 0 : r);
  const bool finishes = r < perWarp && row < count && n < p.outputs;
  const float added = p.residual && finishes ? p.residual[static_cast<size_t>(row) * p.outputs + n] : 0.f;
  const unsigned biasAt = p.firstRow + n0 + r * step;
  const float bias = p.bias && r < WEIGHT_ROWS && row < count && (p.gated || n < p.outputs) ? p.bias[biasAt] : 0.f;

  float sums[WEIGHT_ROWS * ROWS] = {}, squares[ROWS] = {};
  for (unsigned base = 0; base < chunks; base += 32 * AHEAD) {
#pragma unroll
    for (unsigned a = 0; a < AHEAD; a++) {
      const unsigned chunk = base + a * 32 + lane;
      if (chunk >= chunks) continue;
      Eight w[WEIGHT_ROWS];
      const unsigned next = chunk + 32 * AHEAD;
#pragma unroll
      for (int i = 0; i < WEIGHT_ROWS; i++) {
        w[i] = eightOf<FORMAT>(weights[a][i]);
        if (next < chunks) weights[a][i] = weightsAt<FORMAT>(p.weights, weightRow[i] + next);
      }
      Eight gain;
      if (p.gain) gain = floatsAt(p.gain, chunk);
#pragma unroll
      for (int j = 0; j < ROWS; j++) {
        Eight x = floatsAt(p.input, static_cast<size_t>(from[j]) * chunks + chunk);
        if (p.gain) {
          squares[j] = dot(x, x, squares[j]);
#pragma unroll
          for (int k = 0; k < 8; k++) x.x[k] *= gain.x[k];
        }
#pragma unroll
        for (int i = 0; i < WEIGHT_ROWS; i++) sums[i * ROWS + j] = dot(w[i], x, sums[i * ROWS + j]);
      }
    }
  }
  float value = sumOfLane(sums);
  if (p.gain) value *= rsqrtf(sumOfLane(squares) / static_cast<float>(p.columns) + p.epsilon);
  value += bias;
  if (WEIGHT_ROWS == 2 && p.gated) value = silu(value) * __shfl_xor_sync(0xffffffffu, value, ROWS);
  if (finishes) p.output[static_cast<size_t>(row) * p.outputStride + p.outputOffset + n] = value + added;
}

#define PRODUCT(NAME, FORMAT, WEIGHT_ROWS, ROWS) \
  KERNEL(product_##NAME##_##WEIGHT_ROWS##_##ROWS, ProductParameters, 128) { \
    product<FORMAT, WEIGHT_ROWS, ROWS>(p); \
  }
#define PRODUCTS(NAME, FORMAT) \
  PRODUCT(NAME, FORMAT, 2, 4) \
  PRODUCT(NAME, FORMAT, 2, 8)

PRODUCTS(bfloat16, BFLOAT16)
PRODUCTS(float16, FLOAT16)
PRODUCTS(float32, FLOAT32)
