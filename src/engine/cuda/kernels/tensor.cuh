// What tensor cores multiply: rows of 16-bit elements in shared memory, as chunks of eight, in an order in which the eight
// rows of a matrix lie in different banks.
#pragma once
#include "elements.cuh"

// Where a chunk of a row lies, for rows of PER chunks, a power of two from four on.
template <int PER>
__device__ __forceinline__ unsigned placeOf(unsigned row, unsigned chunk) {
  return row * PER + (PER == 4 ? chunk ^ (row / 2 & 3u) : chunk ^ (row & 7u));
}

template <int FORMAT>
__device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (FORMAT == FLOAT16) multiplyHalf(sums, a, b0, b1);
  else multiplyBfloat16(sums, a, b0, b1);
}

template <int FORMAT>
__device__ __forceinline__ unsigned pairOf(float low, float high) {
  return FORMAT == FLOAT16 ? halfPair(low, high) : bfloat16Pair(low, high);
}

// Rows `row` … `row` + 15 and chunks `chunk`, `chunk` + 1, as `multiply` takes them for `a`.
template <int PER>
__device__ __forceinline__ void leftOperand(unsigned (&a)[4], const uint4* tile, unsigned row, unsigned chunk) {
  const unsigned lane = threadIdx.x % 32;
  loadMatrices(a, tile + placeOf<PER>(row + lane % 16, chunk + lane / 16));
}

// The same 16 rows as columns of two `b`: elements 0 and 1 are those of rows `row` … `row` + 7, 2 and 3 of the others.
template <int PER>
__device__ __forceinline__ void rightOperands(unsigned (&b)[4], const uint4* tile, unsigned row, unsigned chunk) {
  const unsigned lane = threadIdx.x % 32;
  loadMatrices(b, tile + placeOf<PER>(row + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2));
}

// The same 16 rows as rows of two `b`: elements 0 and 1 are those of chunk `chunk`, 2 and 3 of the next.
template <int PER>
__device__ __forceinline__ void rightRows(unsigned (&b)[4], const uint4* tile, unsigned row, unsigned chunk) {
  const unsigned lane = threadIdx.x % 32;
  loadTransposed(b, tile + placeOf<PER>(row + lane % 16, chunk + lane / 16));
}
