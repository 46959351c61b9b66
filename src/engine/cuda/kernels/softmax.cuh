// Softmax over keys that come one after the other, of several queries at once. LANES lanes share a key, each with eight of
// its channels; the groups of lanes of a warp take different keys, and are joined at the end.
#pragma once
#include "elements.cuh"
#include "sums.cuh"

// Stands for minus infinity, which no arithmetic may meet: a split without keys has it as its log-sum-exp.
constexpr float NOTHING = -3e38f;

template <int HEADS>
struct Softmax {
  float top[HEADS], sum[HEADS];
  Eight value[HEADS];
};

template <int HEADS>
__device__ __forceinline__ Softmax<HEADS> emptySoftmax() {
  Softmax<HEADS> state;
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    state.top[h] = NOTHING;
    state.sum[h] = 0.f;
    state.value[h] = Eight{};
  }
  return state;
}

// Few models cap scores: what the others run stays short.
__device__ __noinline__ float capped(float score, float softCap) { return softCap * tanhf(score / softCap); }

// A score in base 2: product · sm_scale, capped, · log2(e).
__device__ __forceinline__ float scoreOf(float product, float scale, float softCap) {
  float score = product * scale;
  if (softCap > 0.f) score = capped(score, softCap);
  return score * 1.4426950408889634f;
}

// Brings a head's state to a top that is not less than its own.
template <int HEADS>
__device__ __forceinline__ void shrinkTo(Softmax<HEADS>& state, int h, float top) {
  const float shrink = exp2f(state.top[h] - top);
  state.top[h] = top;
  state.sum[h] *= shrink;
#pragma unroll
  for (int i = 0; i < 8; i++) state.value[h].x[i] *= shrink;
}

// Adds a value by its weight; a weight of 0 is no key at all, whatever the value.
template <int HEADS>
__device__ __forceinline__ void addValue(Softmax<HEADS>& state, int h, float weight, const Eight& value) {
  if (weight == 0.f) return;
  state.sum[h] += weight;
#pragma unroll
  for (int i = 0; i < 8; i++) state.value[h].x[i] = fmaf(weight, value.x[i], state.value[h].x[i]);
}

// What two states over different keys are together: both are brought to the greater top.
template <int HEADS>
__device__ __forceinline__ void joinGroups(Softmax<HEADS>& state, int lanesApart) {
#pragma unroll
  for (int h = 0; h < HEADS; h++) {
    const float top = fmaxf(state.top[h], __shfl_xor_sync(0xffffffffu, state.top[h], lanesApart));
    const float shrink = exp2f(state.top[h] - top);
    state.top[h] = top;
    state.sum[h] *= shrink;
    state.sum[h] += __shfl_xor_sync(0xffffffffu, state.sum[h], lanesApart);
#pragma unroll
    for (int i = 0; i < 8; i++) {
      state.value[h].x[i] *= shrink;
      state.value[h].x[i] += __shfl_xor_sync(0xffffffffu, state.value[h].x[i], lanesApart);
    }
  }
}

// Joins all groups of lanes of a warp; each of them has the result.
template <int LANES, int HEADS>
__device__ __forceinline__ void joinWarp(Softmax<HEADS>& state) {
#pragma unroll
  for (int apart = LANES; apart < 32; apart *= 2) joinGroups(state, apart);
}
