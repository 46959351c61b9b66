// Sums in a fixed order: over the lanes that share something, and over a block.
#pragma once
#include "device.cuh"

// Over LANES neighbouring lanes, a power of two; each of them gets it.
template <int LANES>
__device__ __forceinline__ float sumOverLanes(float value) {
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  return value;
}

// Sums of COUNT values over a warp, COUNT a power of two: lane l gets that of value l % COUNT. Lanes hand each other half of
// what they have left, which takes COUNT - 1 shuffles and what remains of five, not five each.
template <int COUNT>
__device__ __forceinline__ float sumOfLane(float (&values)[COUNT]) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (int half = COUNT / 2; half > 0; half /= 2) {
    const bool upper = lane & half;
#pragma unroll
    for (int i = 0; i < half; i++) {
      const float given = upper ? values[i] : values[i + half];
      values[i] = (upper ? values[i + half] : values[i]) + __shfl_xor_sync(0xffffffffu, given, half);
    }
  }
  float sum = values[0];
#pragma unroll
  for (int apart = COUNT; apart < 32; apart *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
  return sum;
}

// Over a block of THREADS; each thread gets it.
template <int THREADS>
__device__ __forceinline__ float sumOverBlock(float value) {
  __shared__ float ofWarp[THREADS / 32];
  value = sumOverLanes<32>(value);
  if (threadIdx.x % 32 == 0) ofWarp[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.f;
#pragma unroll
  for (int warp = 0; warp < THREADS / 32; warp++) sum += ofWarp[warp];
  __syncthreads();
  return sum;
}
