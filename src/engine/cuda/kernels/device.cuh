// What only the device has, under names that say what it is for. Kernels use nothing else that is CUDA's own but
// threadIdx, blockIdx, gridDim, __shared__, __syncthreads, __shfl_xor_sync and atomicAdd on shared memory.
#pragma once

// A kernel with its one argument, and the threads of its blocks.
#define KERNEL(NAME, PARAMETERS, THREADS) KERNEL_OF_BLOCKS(NAME, PARAMETERS, THREADS, 1)
// One of which BLOCKS blocks fit on a multiprocessor at once.
#define KERNEL_OF_BLOCKS(NAME, PARAMETERS, THREADS, BLOCKS) \
  extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const __grid_constant__ PARAMETERS p)

// Instructions of compute capability 9.0 are comments, which the host turns into instructions where the device has them.
#define ONLY_SM_90(INSTRUCTION) asm volatile("//sm_90 " INSTRUCTION ::: "memory")

// Lets the next kernel of the stream start before this one has ended: it fetches weights, and waits.
__device__ __forceinline__ void letNextStart() { ONLY_SM_90("griddepcontrol.launch_dependents;"); }

// Before anything is read that a kernel has written, and before anything is written.
__device__ __forceinline__ void waitForPrevious() { ONLY_SM_90("griddepcontrol.wait;"); }

// 16 bytes of weights, which nobody else on this multiprocessor will want; the load stays where it stands.
__device__ __forceinline__ uint4 loadOnce(const uint4* from) {
  uint4 raw;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(from));
  return raw;
}

__device__ __forceinline__ float floatOfHalf(unsigned bits) {
  float value;
  asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(value) : "r"(bits));
  return value;
}

// To the nearest float16, ties to even; beyond its range infinity.
__device__ __forceinline__ unsigned halfOfFloat(float value) {
  unsigned bits;
  asm("{ .reg .b16 h; cvt.rn.f16.f32 h, %1; cvt.u32.u16 %0, h; }" : "=r"(bits) : "f"(value));
  return bits;
}

// Shared memory of a block whose size the launch says; the kernel table has it.
#define LAUNCHED_SHARED(NAME) extern __shared__ uint4 NAME[]

__device__ __forceinline__ unsigned sharedAddress(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// 16 bytes from global into shared memory, there after a wait for them; zeros where `has` is false, and nothing is read.
__device__ __forceinline__ void copyLater(uint4* to, const uint4* from, bool has) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(to)), "l"(from), "r"(has ? 16 : 0));
}

// Ends a group of copies, which may be empty.
__device__ __forceinline__ void endCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for the groups of this thread but the last PENDING.
template <int PENDING>
__device__ __forceinline__ void waitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of 8 × 8 elements of 16 bits, by a warp: lane l names row l % 8 of matrix l / 8 in shared memory, and gets of
// each matrix elements 2 · (l % 4) and the next of row l / 4.
__device__ __forceinline__ void loadMatrices(unsigned (&four)[4], const uint4* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
               : "r"(sharedAddress(row)));
}

// The same of the transposed matrices.
__device__ __forceinline__ void loadTransposed(unsigned (&four)[4], const uint4* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(four[0]), "=r"(four[1]), "=r"(four[2]), "=r"(four[3])
               : "r"(sharedAddress(row)));
}

// sums [16, 8] += a [16, 16] · b [16, 8] by a warp, products exact, sums in float32. Lane l has of `sums` elements
// 2 · (l % 4) and the next of rows l / 4 and l / 4 + 8; `a` as four matrices (upper left, lower left, upper right, lower
// right), `b` as the two that its columns are rows of.
#define MULTIPLY(NAME, TYPE)                                                                                        \
  __device__ __forceinline__ void NAME(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {        \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, " \
        "{%0, %1, %2, %3};"                                                                                         \
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                                \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                            \
  }
MULTIPLY(multiplyBfloat16, "bf16")
MULTIPLY(multiplyHalf, "f16")

// Two numbers rounded to 16 bits, ties to even; `low` in the lower half.
__device__ __forceinline__ unsigned bfloat16Pair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ unsigned halfPair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// 2^x by the device's own unit, off by two ulps at most; below float32's normal range 0.
__device__ __forceinline__ float powerOfTwo(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}
