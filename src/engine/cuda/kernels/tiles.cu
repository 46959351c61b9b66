// output[row, n] = Σ_k input[row, k] · weights[n, k] for many rows, in tiles of 64 rows × 64 weight rows and 16 columns.
//   input [rows, columns]; weights [n, columns] from row `firstRow` on; output [rows, outputs], rows `outputStride` apart.
// After it: bias [n], residual [rows, outputs], or SiLU(gate) · up: a tile is then 32 gate rows and their 32 up rows.
// A thread makes 4 rows × 4 outputs: grid (outputs / 64, or / 32 gated, rows / 64).
#include "parameters.cuh"
#include "activation.cuh"
#include "elements.cuh"

constexpr unsigned DEPTH = 16;

template <int FORMAT>
__device__ __forceinline__ void tiles(const ProductParameters& p) {
  // One column of padding against bank conflicts.
  __shared__ float x[DEPTH][65], w[DEPTH][65];
  letNextStart();
  const unsigned thread = threadIdx.x, tx = thread % 16, ty = thread / 16;
  const unsigned chunks = p.columns / 8, across = p.gated ? 32 : 64;
  const unsigned n0 = blockIdx.x * across, row0 = blockIdx.y * 64;
  waitForPrevious();
  const unsigned rows = p.header->rows;
  float sums[4][4] = {};
  for (unsigned k = 0; k < chunks; k += DEPTH / 8) {
    __syncthreads();
    // 128 threads fetch the input's 64 rows × 2 chunks, the others the weights'.
    const unsigned line = thread % 64, part = thread / 64 % 2;
    if (k + part < chunks) {
      Eight eight;
      if (thread < 128) {
        eight = floatsAt(p.input, static_cast<size_t>(min(row0 + line, rows - 1)) * chunks + k + part);
      } else {
        const unsigned n = min(n0 + line % across, p.outputs - 1) + line / across * p.outputs;
        eight = eightOf<FORMAT>(weightsAt<FORMAT>(p.weights, static_cast<size_t>(p.firstRow + n) * chunks + k + part));
      }
#pragma unroll
      for (int i = 0; i < 8; i++) (thread < 128 ? x : w)[part * 8 + i][line] = eight.x[i];
    }
    __syncthreads();
    const unsigned depth = min(DEPTH, (chunks - k) * 8);
    for (unsigned d = 0; d < depth; d++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = fmaf(x[d][ty + 16 * i], w[d][tx + 16 * j], sums[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const unsigned row = row0 + ty + 16 * i;
    if (row >= rows) continue;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const unsigned n = n0 + tx + 16 * j;
      if (n >= p.outputs || (p.gated && j >= 2)) continue;
      float value = sums[i][j] + (p.bias ? p.bias[p.firstRow + n] : 0.f);
      if (p.gated) value = silu(value) * (sums[i][j ^ 2] + (p.bias ? p.bias[p.firstRow + p.outputs + n] : 0.f));
      if (p.residual) value += p.residual[static_cast<size_t>(row) * p.outputs + n];
      p.output[static_cast<size_t>(row) * p.outputStride + p.outputOffset + n] = value;
    }
  }
}

KERNEL(tiles_float32, ProductParameters, 256) { tiles<FLOAT32>(p); }
