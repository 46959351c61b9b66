// output[row, n] = Σ_k input[row, k] · weights[n, k] on tensor cores: a block makes a tile of WARPS_M · M · 16 rows ×
// WARPS_N · N · 8 weight rows, each warp M × N matrices of it. 64 columns at a time are fetched, STAGES of them on their way;
// at the end the sums take their place, and leave from there in whole lines.
#pragma once
#include "parameters.cuh"
#include "activation.cuh"
#include "tensor.cuh"

// Four outputs side by side of one row, from where they are computed on.
template <int FORMAT>
__device__ __forceinline__ void leaveFour(
    const TensorProductParameters& p, unsigned row, unsigned n, float (&value)[4], bool evenly) {
  const size_t to = static_cast<size_t>(row) * p.outputStride + p.outputOffset + n;
  const size_t dense = static_cast<size_t>(row) * p.outputs + n;
  if (!evenly) {
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
      if (n + j < p.outputs) p.output[to + j] = value[j] + (p.residual ? p.residual[dense + j] : 0.f);
    }
    return;
  }
  if (p.residual) {
    const float4 added = *reinterpret_cast<const float4*>(p.residual + dense);
    value[0] += added.x;
    value[1] += added.y;
    value[2] += added.z;
    value[3] += added.w;
  }
  if (p.output) *reinterpret_cast<float4*>(p.output + to) = make_float4(value[0], value[1], value[2], value[3]);
  if (p.narrow) p.narrow[dense / 4] = make_uint2(pairOf<FORMAT>(value[0], value[1]), pairOf<FORMAT>(value[2], value[3]));
}

template <int FORMAT, int WARPS_M, int WARPS_N, int M, int N, int STAGES>
__device__ __forceinline__ void tensorProduct(const TensorProductParameters& p) {
  constexpr unsigned THREADS = WARPS_M * WARPS_N * 32, PER = 8;
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

  // The stages are done with, also those that a product of few columns fetched for nothing. Rows of sums lie eight further
  // apart than they are long: the rows that a warp writes at once lie in different banks.
  constexpr unsigned APART = ACROSS + 8;
  static_assert(ROWS * APART <= STAGES * STAGE * 4);
  waitForCopies<0>();
  __syncthreads();
  float* const all = reinterpret_cast<float*>(stages);
  const unsigned lane = thread % 32;
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int n = 0; n < N; n++) {
      float* own = all + (warpRow + m * 16 + lane / 4) * APART + warpColumn + n * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(own) = make_float2(sums[m][n][0], sums[m][n][1]);
      *reinterpret_cast<float2*>(own + 8 * APART) = make_float2(sums[m][n][2], sums[m][n][3]);
    }
  }
  __syncthreads();

  // A thread takes the same four outputs of every row that it takes.
  const unsigned quads = (p.gated ? ACROSS / 2 : ACROSS) / 4, quad = thread % quads, n = n0 + quad * 4;
  if (n >= p.outputs) return;
  const bool evenly = (p.outputs | p.outputStride | p.outputOffset) % 4 == 0;
  // Gated, eight gate columns and eight up columns take turns as the weight rows do.
  const float* column = all + (p.gated ? quad / 2 * 16 + quad % 2 * 4 : quad * 4);
  float bias[4] = {}, upBias[4] = {};
#pragma unroll
  for (unsigned j = 0; j < 4; j++) {
    if (!p.bias || n + j >= p.outputs) continue;
    bias[j] = p.bias[p.firstRow + n + j];
    if (p.gated) upBias[j] = p.bias[p.firstRow + n + j + p.outputs];
  }
  const unsigned end = min(ROWS, rows - row0);
  for (unsigned i = thread / quads; i < end; i += THREADS / quads) {
    const float4 own = *reinterpret_cast<const float4*>(column + i * APART);
    float value[4] = {own.x + bias[0], own.y + bias[1], own.z + bias[2], own.w + bias[3]};
    if (p.gated) {
      const float4 up = *reinterpret_cast<const float4*>(column + i * APART + 8);
      value[0] = silu(value[0]) * (up.x + upBias[0]);
      value[1] = silu(value[1]) * (up.y + upBias[1]);
      value[2] = silu(value[2]) * (up.z + upBias[2]);
      value[3] = silu(value[3]) * (up.w + upBias[3]);
    }
    leaveFour<FORMAT>(p, row0 + i, n, value, evenly);
  }
}
