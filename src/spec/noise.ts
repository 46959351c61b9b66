import { type DType, type FloatFormat, floatFormat, unitInLastPlace } from "../tensor/dtype.js";

/**
 * Rounding as variance. A store to a float format is off by at most half a unit in the last place (ulp), evenly
 * distributed, so its variance is ulp²/12; near zero the ulp is the subnormal spacing. docs/noise.md derives the rest.
 */

/** What a correct runtime may round to: `store` between ops, `compute` inside them (tf32: matrix products and RoPE angles). */
export interface Precision {
  readonly store: DType;
  readonly compute: "float32" | "tf32" | "float64";
}

const float32 = floatFormat("float32")!;
const tf32: FloatFormat = { fractionBits: 10, minExponent: -126, max: float32.max, hasInfinity: true };

/** Variance of one store of `value` to `dtype`; 0 for integer types. */
export function storeVariance(value: number, dtype: DType): number {
  const format = floatFormat(dtype);
  return format ? formatVariance(value, format) : 0;
}

function formatVariance(value: number, format: FloatFormat): number {
  if (!Number.isFinite(value)) return 0;
  const ulp = unitInLastPlace(value, format);
  return (ulp * ulp) / 12;
}

/** Relative variance of one float32 operation: an ulp is between 2^-24 and 2^-23 of the value. */
export const computeVariance = 2 ** -48 / 6;

/** Relative variance of an operand that tensor cores first round to tf32. */
export const tf32Variance = 2 ** -22 / 6;

/**
 * Variance of summing n float32 terms one after the other, the worst legal order: each partial sum is rounded once, and
 * partial sums grow like sqrt(n) when terms cancel (`squares` = Σ term²) or like n when they do not (`sum`).
 */
export function accumulationVariance(sum: number, squares: number, n: number): number {
  return computeVariance * Math.max((squares * n) / 2, (sum * sum * n) / 3);
}

/** Largest float32; a correct kernel may overflow beyond it although the mathematical result is finite. */
export const float32Max = float32.max;

/** Extra relative variance of a product's operands under `precision`. */
export function operandVariance(precision: Precision): number {
  return precision.compute === "tf32" ? 2 * tf32Variance : 0;
}

/** Relative variance of a RoPE angle: position × inverse frequency, computed in float32 or, by a tf32 matmul, in tf32. */
export function angleVariance(precision: Precision): number {
  return precision.compute === "tf32" ? 2 * tf32Variance : 6 * computeVariance;
}

export { tf32 as tf32Format };
