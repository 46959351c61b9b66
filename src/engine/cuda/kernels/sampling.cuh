// What a sequence asks of the sampler, and the random numbers it gets: a function of seed, position and token alone, so
// that a run repeats whatever it is batched with.
#pragma once
#include "device.cuh"

struct Sampling {
  // 0: greedy.
  float temperature;
  float topP;
  unsigned seed;
  // Left by top-p.cu: tokens whose `ordered` logit is below this are no candidates.
  unsigned threshold;
};

// A float's bits as an integer that sorts like the float.
__device__ __forceinline__ unsigned ordered(float value) {
  const unsigned bits = __float_as_uint(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ bool isFinite(float value) {
  return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}

// "lowbias32" of Chris Wellons' hash-prospector.
__device__ __forceinline__ unsigned mix(unsigned x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// -log of an exponential variate: added to log-probabilities, the greatest sum is a draw from them (Gumbel).
__device__ __forceinline__ float gumbel(unsigned seed, unsigned position, unsigned token) {
  const float v = (static_cast<float>(mix(mix(mix(seed) + position) ^ (token * 0x9e3779b9u))) + 0.5f) * 0x1p-32f;
  return -logf(fmaxf(-log1pf(-fminf(v, 0x1.fffffep-1f)), 1e-30f));
}
