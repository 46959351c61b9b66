import type { DType } from "../../tensor/dtype.js";

const formats: Partial<Record<DType, number>> = { bfloat16: 0, float16: 1, float32: 2 };

/**
 * The number that kernels know an element type by.
 * @throws Error when kernels cannot read the type.
 */
export function formatOf(dtype: DType, what: string): number {
  const format = formats[dtype];
  if (format === undefined) throw new Error(`${what}: ${dtype} is not one of bfloat16, float16, float32`);
  return format;
}
