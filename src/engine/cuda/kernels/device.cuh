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
