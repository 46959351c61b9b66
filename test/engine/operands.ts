import { type DType, decode, encode } from "../../src/tensor/dtype.js";
import { normals, randomNumbers } from "./gpu.js";

/** Random operands of one layer, weights rounded to what a device holds. */
export function operands(seed: number, rows: number, k: number, weightRows: number, dtype: DType) {
  const random = randomNumbers(seed);
  const bytes = encode(normals(random, weightRows * k, 0.05), dtype) as Uint8Array<ArrayBuffer>;
  return {
    input: normals(random, rows * k),
    gain: normals(random, k),
    bias: normals(random, weightRows),
    residual: normals(random, rows * weightRows),
    weights: decode(bytes, dtype),
    bytes,
  };
}
