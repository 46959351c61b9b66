import { floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  functionVariance,
  longerPath,
  matrixVariance,
  operandVariance,
  storeVariance,
} from "../noise.js";
import { type MutableBlock, type OpContext, raiseJump, scaled } from "../op.js";
import type { AttentionRounding } from "./attention-recipes.js";
import { narrowFormat, type Scores } from "./attention-scores.js";
import { fastExponentialVariance } from "./exponential.js";
import type { SoftmaxRow } from "./softmax.js";

/**
 * What uncertain scores make of the weights, and which of them may have been rounded the other way.
 * @param unrounded exponentials or probabilities before they are rounded.
 * @param whole first keys whose exponential is the fast one.
 */
export function weightNoise(
  { precision, rounding }: OpContext,
  settings: AttentionRounding,
  { scores, variance, jump }: Scores,
  unrounded: Float64Array,
  rescale: Float64Array,
  total: number,
  whole: number,
): Pick<SoftmaxRow, "weightVariance" | "weightJump" | "totalVariance" | "shared"> {
  const count = scores.length;
  const weightVariance = new Float64Array(count);
  const weightJump = new Float64Array(count);
  const largest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const store = rounding?.store ?? precision.store;
  const format = floatFormat(store);
  const operand = rounding ? 0 : operandVariance(precision);
  const normalised = settings.weights === "probabilities";
  const narrowed = narrowFormat(rounding, "values");
  let totalVariance = normalised ? 0 : total * total * computeVariance * (count + 4);
  const relatives = scores.map((score, j) => {
    // The exponent is a difference of products that are rounded in float32.
    const exponent = 4 * computeVariance * ((score - largest) ** 2 + largest ** 2);
    // A flipped score moves its exponential by e^jump.
    const steep = jump[j]! > 0 ? (Math.expm1(Math.min(jump[j]!, 30)) / jump[j]!) ** 2 : 1;
    const share = normalised ? unrounded[j]! : (unrounded[j]! * rescale[j]!) / total;
    return (
      shareVariance(variance[j]! * steep, share) + exponent + (j < whole ? fastExponentialVariance : functionVariance)
    );
  });
  // What moves one exponential moves the sum that divides them all.
  const ofSum = relatives.reduce((sum, relative, j) => sum + scaled(unrounded[j]! ** 2, relative), 0);
  for (let j = 0; j < count; j++) {
    const w = unrounded[j]!;
    const factor = normalised ? 1 : rescale[j]!;
    const relative = normalised ? relatives[j]! + ofSum + computeVariance * count + functionVariance : relatives[j]!;
    const smooth = scaled(w * w, relative);
    let own = smooth;
    let ofWeight = Math.min(total, w * Math.expm1(Math.min(jump[j]!, 30)));
    if (!rounding) own += storeVariance(w, store) + w * w * (operand + computeVariance * (4 + count));
    else if (settings.weights !== "float32") {
      own = flipVariance(w, smooth, store, ofWeight);
      if (own > 0 && format) ofWeight = Math.max(ofWeight, unitInLastPlace(w, format));
    }
    if (narrowed) {
      own = flipVariance(w, own, narrowed, ofWeight);
      if (own > 0) ofWeight = Math.max(ofWeight, unitInLastPlace(w, narrowed));
    }
    weightVariance[j] = own * factor * factor;
    weightJump[j] = ofWeight * factor;
    if (!normalised) totalVariance += (settings.roundedSum ? own : smooth) * factor * factor;
  }
  const shared = !rounding || (settings.weights === "float32" && !narrowed);
  return { weightVariance, weightJump, totalVariance: shared ? 0 : totalVariance, shared };
}

/**
 * Relative variance of a probability whose score is uncertain by `variance`: that of a log-normal number, as far as a
 * number between 0 and 1 can scatter at all.
 */
function shareVariance(variance: number, share: number): number {
  if (variance === 0 || variance === Infinity || share === 0) return variance;
  const most = Math.min(variance, 30);
  return Math.min(Math.exp(most) * Math.expm1(most), Math.max(0, 1 / share - 1));
}

interface Values {
  value(j: number): number;
  variance(j: number): number;
  jump(j: number): number;
}

/** Noise of one output element: its weights, its values, the sum of their products, the division. */
export function valueNoise(context: OpContext, row: SoftmaxRow, out: MutableBlock, at: number, values: Values): void {
  const { precision, rounding } = context;
  const { weight, total, weightVariance, weightJump } = row;
  if (total === 0) return;
  const result = out.value[at]!;
  let variance = 0;
  let squares = 0;
  let sum = 0;
  let partials = 0;
  let partialSquares = 0;
  let jump = 0;
  for (let j = 0; j < weight.length; j++) {
    const w = weight[j]!;
    if (w === 0) continue;
    const v = values.value(j);
    const own = values.variance(j);
    // A weight that the total contains too moves the result only as far as its value differs from it.
    const lever = row.shared ? v - result : v;
    const ofWeight = weightVariance[j]!;
    if (lever !== 0 && ofWeight !== 0) variance += lever * lever * ofWeight;
    if (own !== 0) variance += w * w * own;
    squares += w * w * v * v;
    sum += w * v;
    partials += sum;
    partialSquares += sum * sum;
    jump = Math.max(jump, Math.abs(lever) * weightJump[j]!, w * values.jump(j));
  }
  if (!rounding) {
    // Rounding of single probabilities does not cancel in the division.
    for (let j = 0; j < weight.length; j++) variance += storeVariance(weight[j]!, precision.store) * result * result;
  }
  const n = weight.length;
  const matrix =
    precision.store !== "float32" || precision.compute === "tf32" || narrowFormat(rounding, "values") !== undefined;
  const path = longerPath(sum, n, partials, partialSquares);
  const summed = (matrix ? matrixVariance : accumulationVariance)(sum, squares, n, path);
  const divided = result * result * (row.totalVariance + total * total * (functionVariance + computeVariance * n));
  out.variance[at] = (variance + summed + divided) / (total * total);
  raiseJump(out, at, jump / total);
}
