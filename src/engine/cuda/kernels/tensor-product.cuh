// output[row, n] = Σ_k input[row, k] · weights[n, k] on tensor cores: a block makes a tile of WARPS_M · M · 16 rows ×
// WARPS_N · N · 8 weight rows, each warp M × N matrices of it. DEPTH columns at a time are fetched, STAGES of them on their
// way.
#pragma once
#include "parameters.cuh"
#include "activation.cuh"
#include "tensor.cuh"

template <int FORMAT, int WARPS_M, int WARPS_N, int M, int N, int DEPTH, int STAGES>
__device__ __forceinline__ void tensorProduct(const TensorProductParameters& p) {
  constexpr unsigned THREADS = WARPS_M * WARPS_N * 32, PER = DEPTH / 8;
  constexpr unsigned ROWS = WARPS_M * M * 16, ACROSS = WARPS_N * N * 8, STAGE = (ROWS + ACROSS) * PER;
  constexpr unsigned INPUTS = ROWS * PER / THREADS, WEIGHTS = ACROSS * PER / THREADS;
  static_assert(INPUTS * THREADS == ROWS * PER && WEIGHTS * THREADS == ACROSS * PER && THREADS / PER % 8 == 0);
  LAUNCHED_SHARED(stages);
  letNextStart();
  const unsigned thread = threadIdx.x, chunks = p.columns / 8;
  const unsigned row0 = blockIdx.y * ROWS, n0 = blockIdx.x * (p.gated ? ACROSS / 2 : ACROSS);
  // A thread fetches the same chunk of every row that it takes, THREADS / PER rows apart: the same place in all of them.
  const unsigned line = thread / PER, chunk = thread % PER, to = placeOf<PER>(line, chunk);
  const uint4* weight[WEIGHTS];
#pragma unroll
  for (unsigned i = 0; i < WEIGHTS; i++) {
    const unsigned w = line + i * (THREADS / PER);
    // Gated, eight gate rows and the eight up rows of the same outputs take turns, so that one thread has both.
    const unsigned n = p.gated ? min(n0 + w / 16 * 8 + w % 8, p.outputs - 1) + w / 8 % 2 * p.outputs
                               : min(n0 + w, p.outputs - 1);
    weight[i] = p.weights + static_cast<size_t>(p.firstRow + n) * chunks + chunk;
  }
  const auto fetchWeights = [&](unsigned stage, unsigned k) {
    uint4* place = stages + stage * STAGE + ROWS * PER + to;
#pragma unroll
    for (unsigned i = 0; i < WEIGHTS; i++) copyLater(place + i * THREADS, weight[i] + k, k + chunk < chunks);
  };
#pragma unroll
  for (unsigned s = 0; s + 1 < STAGES; s++) fetchWeights(s, s * PER);
  waitForPrevious();
  const unsigned rows = p.header->rows;
  const uint4* input[INPUTS];
#pragma unroll
  for (unsigned i = 0; i < INPUTS; i++) {
    input[i] = p.input + static_cast<size_t>(min(row0 + line + i * (THREADS / PER), rows - 1)) * chunks + chunk;
  }
  const auto fetchInputs = [&](unsigned stage, unsigned k) {
    uint4* place = stages + stage * STAGE + to;
#pragma unroll
    for (unsigned i = 0; i < INPUTS; i++) copyLater(place + i * THREADS, input[i] + k, k + chunk < chunks);
  };
  // The first group has all weights that are on their way already.
#pragma unroll
  for (unsigned s = 0; s + 1 < STAGES; s++) {
    fetchInputs(s, s * PER);
    endCopies();
  }

  const unsigned warp = thread / 32, warpRow = warp / WARPS_N * M * 16, warpColumn = warp % WARPS_N * N * 8;
  float sums[M][N][4] = {};
  const unsigned steps = (chunks + PER - 1) / PER;
  unsigned now = 0, next = STAGES - 1;
  for (unsigned step = 0; step < steps; step++) {
    waitForCopies<STAGES - 2>();
    // Everybody's copies are there, and everybody is done with the stage that is filled next.
    __syncthreads();
    if (step + STAGES - 1 < steps) {
      fetchWeights(next, (step + STAGES - 1) * PER);
      fetchInputs(next, (step + STAGES - 1) * PER);
    }
    endCopies();
    const uint4 *inputs = stages + now * STAGE, *weights = inputs + ROWS * PER;
#pragma unroll
    for (unsigned k = 0; k < PER; k += 2) {
      unsigned a[M][4], b[N / 2][4];
#pragma unroll
      for (int m = 0; m < M; m++) leftOperand<PER>(a[m], inputs, warpRow + m * 16, k);
#pragma unroll
      for (int n = 0; n < N / 2; n++) rightOperands<PER>(b[n], weights, warpColumn + n * 16, k);
#pragma unroll
      for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < N; n++) multiply<FORMAT>(sums[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
      }
    }
    now = now + 1 == STAGES ? 0 : now + 1;
    next = next + 1 == STAGES ? 0 : next + 1;
  }

  // A lane has two neighbouring outputs of rows eight apart.
  const unsigned lane = thread % 32;
  const bool evenly = (p.outputs | p.outputStride | p.outputOffset) % 2 == 0;
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const unsigned row = row0 + warpRow + m * 16 + half * 8 + lane / 4;
      if (row >= rows) continue;
      float* output = p.output + static_cast<size_t>(row) * p.outputStride + p.outputOffset;
      const float* residual = p.residual ? p.residual + static_cast<size_t>(row) * p.outputs : nullptr;
      // Gated, the matrices take turns as the weight rows do.
#pragma unroll
      for (int i = 0; i < N; i++) {
        if (p.gated && i % 2) continue;
        const unsigned n = n0 + (p.gated ? (warpColumn + i * 8) / 2 : warpColumn + i * 8) + lane % 4 * 2;
        float value[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
          const unsigned at = p.firstRow + n + j;
          const bool has = n + j < p.outputs;
          value[j] = sums[m][i][half * 2 + j] + (p.bias && has ? p.bias[at] : 0.f);
          if (p.gated) {
            const float up = sums[m][i | 1][half * 2 + j] + (p.bias && has ? p.bias[at + p.outputs] : 0.f);
            value[j] = silu(value[j]) * up;
          }
        }
        if (n >= p.outputs) continue;
        if (evenly) {
          if (residual) {
            const float2 added = *reinterpret_cast<const float2*>(residual + n);
            value[0] += added.x;
            value[1] += added.y;
          }
          if (p.output) *reinterpret_cast<float2*>(output + n) = make_float2(value[0], value[1]);
          if (p.narrow) {
            p.narrow[(static_cast<size_t>(row) * p.outputs + n) / 2] = pairOf<FORMAT>(value[0], value[1]);
          }
        } else {
#pragma unroll
          for (int j = 0; j < 2; j++) {
            if (n + j < p.outputs) output[n + j] = value[j] + (residual ? residual[n + j] : 0.f);
          }
        }
      }
    }
  }
}
