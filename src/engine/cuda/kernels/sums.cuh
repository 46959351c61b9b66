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
