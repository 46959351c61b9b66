// output[row, n] = Σ_k input[row, k] · weights[n, k] for many rows, on tensor cores: both in bfloat16 or both in float16, sums
// in float32.
//   input [rows, columns], weights [n, columns] from row `firstRow` on, both of 16 bits; output [rows, outputs] in float32,
//   rows `outputStride` apart, or null; narrow [rows, outputs], the same rounded to 16 bits, or null: it takes outputs,
//   stride and offset that are multiples of four.
// After it: bias [n], residual [rows, outputs], or SiLU(gate) · up, where weights are `outputs` gate rows, then as many up.
// The variants are a block's rows × weight rows × stages: grid (weight rows / its, rows / its).
#include "tensor-product.cuh"

#define TENSOR_PRODUCT(NAME, FORMAT, ROWS, ACROSS, STAGES, WARPS_M, WARPS_N)                                  \
  KERNEL(tensor_product_##NAME##_##ROWS##x##ACROSS##x##STAGES, TensorProductParameters, WARPS_M * WARPS_N * 32) { \
    tensorProduct<FORMAT, WARPS_M, WARPS_N, ROWS / WARPS_M / 16, ACROSS / WARPS_N / 8, STAGES>(p);            \
  }
#define TENSOR_PRODUCTS(NAME, FORMAT)             \
  TENSOR_PRODUCT(NAME, FORMAT, 128, 128, 3, 4, 2) \
  TENSOR_PRODUCT(NAME, FORMAT, 64, 128, 3, 2, 2)  \
  TENSOR_PRODUCT(NAME, FORMAT, 64, 128, 4, 1, 4)  \
  TENSOR_PRODUCT(NAME, FORMAT, 64, 64, 4, 2, 2)   \
  TENSOR_PRODUCT(NAME, FORMAT, 64, 32, 4, 2, 2)   \
  TENSOR_PRODUCT(NAME, FORMAT, 32, 32, 4, 2, 2)

TENSOR_PRODUCTS(bfloat16, BFLOAT16)
TENSOR_PRODUCTS(float16, FLOAT16)
