import { type DType, type FloatFormat, floatFormat, tf32Format, unitInLastPlace } from "../tensor/dtype.js";

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

/** Variance of storing several values with these squares together: an ulp is 2^-fraction bits of a value at most. */
export function largestStoreVariance(squares: number, dtype: DType): number {
  const format = floatFormat(dtype);
  return format ? (squares * 2 ** (-2 * format.fractionBits)) / 12 + formatVariance(0, format) : 0;
}

/** Relative variance of one float32 operation: an ulp is between 2^-24 and 2^-23 of the value. */
export const computeVariance = 2 ** -48 / 6;

/** Relative variance of an operand that tensor cores first round to tf32. */
export const tf32Variance = 2 ** -22 / 6;

/** Relative variance of a library function in float32, of which the worst are off by 4 ulp (exp2, rsqrt, division, fast variants). */
export const functionVariance = (2 ** -21 / 3) ** 2;

/**
 * Variance of summing n float32 terms one after the other, the worst legal order: each partial sum is rounded once, and
 * partial sums grow like sqrt(n) when terms cancel (`squares` = Σ term²) or like n when they do not (`sum`). Where the
 * terms are at hand, `path` says what the partial sums in their own order came to: twice the mean error of an ulp covers
 * the place of each within its binade.
 */
export function accumulationVariance(sum: number, squares: number, n: number, path = 0): number {
  return computeVariance * Math.max((squares * n) / 2, (sum * sum * n) / 3, 2 * path);
}

/** Σ S_k² over partial sums S_k, forwards or backwards, whichever is larger, from Σ S_k, Σ S_k² and the whole sum. */
export function longerPath(sum: number, n: number, partials: number, partialSquares: number): number {
  return Math.max(partialSquares, partialSquares + n * sum * sum - 2 * sum * partials);
}

/**
 * What float32 sums of size `sum` lose of terms that are added to them one by one: a partial sum is a multiple of its ulp,
 * so each term is rounded to one as well, and small terms of one sign are lost alike. The largest loss at an ulp of the sum
 * or of half or a quarter of it, where most of the partial sums lie.
 */
export function stagnation(sum: number, count: number, term: (k: number) => number): number {
  if (!Number.isFinite(sum) || sum === 0) return 0;
  let ulp = unitInLastPlace(sum, float32);
  let most = 0;
  for (let halved = 0; halved < 3; halved++, ulp /= 2) {
    let lost = 0;
    for (let k = 0; k < count; k++) {
      const t = term(k);
      lost += Math.round(t / ulp) * ulp - t;
    }
    most = Math.max(most, Math.abs(lost));
  }
  return most;
}

/** Terms that one matrix instruction adds at once. */
const termsPerInstruction = 16;

/**
 * The same for a sum that tensor cores may have computed: they cut partial sums off instead of rounding them, so that
 * each instruction may lose up to an ulp of float32, always towards zero. A third of that bound counts as one sigma.
 * Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021.
 */
export function matrixVariance(sum: number, squares: number, n: number, path = 0): number {
  const cut = (n / termsPerInstruction) * 2 ** -23;
  return accumulationVariance(sum, squares, n, path) + ((cut * cut) / 9) * Math.max(sum * sum, squares);
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

/** A flip less probable than this does not happen: nine sigma where errors are Gaussian. */
const never = Math.exp(-81 / 2);
/** Single errors this small beside the variance, at a distance, leave a sum of many Gaussian. */
const smallJump = 1e-3;

/**
 * Second moment of the error of a value that was rounded to `dtype` where the exact one, `value`, is uncertain by
 * `variance`: none, unless `value` lies so near a rounding boundary that the other neighbour may have been stored.
 * @param jump the largest single error in that variance: a rare flip further up reaches farther than its variance says.
 */
export function flipVariance(value: number, variance: number, to: DType | FloatFormat, jump = 0): number {
  if (variance === 0) return 0;
  const format = typeof to === "string" ? floatFormat(to) : to;
  if (!format || !Number.isFinite(value)) return variance;
  const ulp = unitInLastPlace(value, format);
  const scaled = Math.abs(value) / ulp;
  const distance = Math.abs(scaled - Math.floor(scaled) - 0.5) * ulp;
  const unlikely = chanceBeyond(distance, variance, jump);
  // Far beyond an ulp the error is the value's own, a store does not add to it.
  return unlikely < never ? 0 : Math.max(variance, ulp * ulp) * unlikely;
}

/** A bound on the probability of an error of at least `distance`: as `surprise` has it where single errors stand out. */
function chanceBeyond(distance: number, variance: number, jump: number): number {
  const gaussian = Math.exp(-(distance * distance) / (2 * variance));
  if (distance * jump < smallJump * variance) return gaussian;
  return Math.exp(-surprise(distance, variance, jump));
}

/**
 * How improbable an error of at least `distance` is, as -ln of a bound on its probability: Bennett's inequality for a sum
 * of independent errors, none larger than `jump`, of the given total variance, or Chebyshev's; Gaussian where no single
 * error stands out.
 * Bennett, "Probability inequalities for the sum of independent random variables", 1962.
 */
export function surprise(distance: number, variance: number, jump: number): number {
  if (!(distance > 0)) return 0;
  if (variance === Infinity) return 0;
  if (variance === 0) return Infinity;
  const gaussian = (distance * distance) / (2 * variance);
  const x = (distance * jump) / variance;
  if (x < smallJump) return Math.max(0, gaussian - Math.LN2);
  const bennett = (variance / (jump * jump)) * ((1 + x) * Math.log1p(x) - x);
  return Math.max(0, bennett - Math.LN2, Math.log(distance * distance) - Math.log(variance));
}

export { tf32Format };
