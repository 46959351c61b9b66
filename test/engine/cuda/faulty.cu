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

// A copy, of zeros, that nobody has waited for; the second thread has waited for the group before it alone.
KERNEL(faulty_copy, Nothing, 64) {
  __shared__ uint4 values[64];
  copyLater(values + threadIdx.x, nullptr, false);
  endCopies();
  if (threadIdx.x == 1) waitForCopies<1>();
  if (threadIdx.x > 1) waitForCopies<0>();
  p.output[threadIdx.x] = __uint_as_float(values[threadIdx.x].x);
}

// A group that was not ended is no group that one can wait for.
KERNEL(faulty_group, Nothing, 64) {
  __shared__ uint4 values[64];
  copyLater(values + threadIdx.x, nullptr, false);
  if (threadIdx.x > 0) endCopies();
  waitForCopies<0>();
  p.output[threadIdx.x] = __uint_as_float(values[threadIdx.x].x);
}

KERNEL(faulty_matrices, Nothing, 32) {
  __shared__ uint4 rows[32];
  unsigned four[4];
  if (threadIdx.x < 16) loadMatrices(four, rows + threadIdx.x);
  else loadTransposed(four, rows + threadIdx.x);
  p.output[threadIdx.x] = __uint_as_float(four[0]);
}

KERNEL(faulty_multiply, Nothing, 32) {
  float sums[4] = {};
  const unsigned a[4] = {};
  if (threadIdx.x < 16) multiplyBfloat16(sums, a, 0, 0);
  else multiplyHalf(sums, a, 0, 0);
  p.output[threadIdx.x] = sums[0];
}
