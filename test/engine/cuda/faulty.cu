// Kernels with faults that a device would not tell: test/engine/cuda/emulation.test.ts sees them found.
struct Nothing {
  float* output;
};

KERNEL(faulty_barrier, Nothing, 64) {
  if (threadIdx.x < 40) __syncthreads();
}

KERNEL(faulty_shuffle, Nothing, 64) {
  const float value = __shfl_xor_sync(0xffffffffu, 1.f, threadIdx.x % 2 ? 1 : 2);
  p.output[threadIdx.x] = value;
}

KERNEL(faulty_lanes, Nothing, 32) {
  if (threadIdx.x < 16) p.output[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.f, 1);
}

// Shared memory that nobody has written.
KERNEL(faulty_shared, Nothing, 64) {
  __shared__ float values[64];
  if (threadIdx.x != 63) values[threadIdx.x] = 1.f;
  __syncthreads();
  p.output[threadIdx.x] = values[threadIdx.x];
}

// The neighbour's value without a barrier before it.
KERNEL(faulty_race, Nothing, 64) {
  __shared__ float values[64];
  values[threadIdx.x] = 1.f;
  p.output[threadIdx.x] = values[63 - threadIdx.x];
}

KERNEL(right, Nothing, 64) {
  __shared__ float values[64];
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  p.output[threadIdx.x] = __shfl_xor_sync(0xffffffffu, values[63 - threadIdx.x], 5);
}
