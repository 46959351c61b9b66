import { type DType, floatFormat, roundTo, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  float32Max,
  largestStoreVariance,
  longerPath,
  matrixVariance,
  operandVariance,
  stagnation,
  storeVariance,
  tf32Format,
} from "../noise.js";
import {
  type Block,
  emptyBlock,
  indices,
  type MutableBlock,
  mayBe,
  type Op,
  type OpContext,
  type OpRounding,
  raiseJump,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";
import { RunningSum } from "../running-sum.js";
import { type Accumulator, accumulate, accumulatorNoise, type Products } from "./accumulator.js";
import { type QuantisedProduct, recipesOf } from "./linear-recipes.js";
import { weightReader } from "./linear-weights.js";
import { quantised } from "./quantised.js";
import { overTerms, type Terms } from "./terms.js";

export interface LinearAttributes {
  /** Parameter [columns, inputs]. */
  readonly weight: string;
  /** Parameter [columns], added after the product. */
  readonly bias?: string | undefined;
  /** The type of the result, where it is not the run's: a router in float32. */
  readonly dtype?: DType | undefined;
  /** A running sum narrower than float32, where a rewrite says so. */
  readonly accumulator?: Accumulator;
  /** The inputs that are summed over: those of one rank; all when absent. */
  readonly terms?: Terms | undefined;
  /** Where the weight is kept in a narrow format: which roundings that makes legal. */
  readonly weightFormat?: QuantisedProduct | undefined;
}

/** y = x Wᵀ + b over the last axis: x [rows, inputs], W [columns, inputs], b [columns]. */
export function linear(attributes: LinearAttributes): Op {
  const { weight, bias, accumulator, terms } = attributes;
  if (terms) return { ...overTerms(linear({ ...attributes, terms: undefined }), terms), attributes: { ...attributes } };
  const recipes = recipesOf(bias !== undefined, attributes.weightFormat);
  const op: Op = {
    kind: "linear",
    attributes: { ...attributes },
    dtype: attributes.dtype,
    recipes,
    evaluate(context, rows, columns) {
      const { parameters, arithmetic, noise, rounding } = context;
      const n = context.width(0);
      const x = operandOf(context, rows, attributes.weightFormat);
      const out = emptyBlock(rows.length * columns.length, noise);
      const biases = bias ? parameters.rows(bias, 0, 1) : undefined;
      const weights = weightReader(columns, parameters, weight, n, rounding);
      const bounds = boundsOf(n, rounding);
      for (let c = 0; c < columns.length; c++) {
        const { values: w, start: wStart } = weights(c);
        if (!accumulator && bounds.length === 2) {
          arithmetic.dots(x.value, rows.length, w, wStart, n, { values: out.value, at: c, stride: columns.length });
          if (!noise) continue;
        }
        for (let r = 0; r < rows.length; r++) {
          const at = r * columns.length + c;
          if (accumulator) {
            const products = { x: x.value, xStart: r * n, w, wStart, n };
            const first = accumulator.biasFirst ? (biases?.[columns[c]!] ?? 0) : 0;
            out.value[at] = accumulate(products, accumulator, first);
            if (noise) addAccumulatorNoise(products, accumulator, first, x, out, at);
            continue;
          }
          if (bounds.length > 2) out.value[at] = sumOfParts(context, { x, xStart: r * n, w, wStart }, bounds);
          if (noise)
            elementNoise(context, { x, xStart: r * n, w, wStart }, bounds, biases?.[columns[c]!] ?? 0, out, at);
        }
      }
      if (biases && !accumulator?.biasFirst) {
        if (rounding?.settings.biasAfter) roundAll(out.value, rounding.store);
        for (let i = 0; i < out.value.length; i++) out.value[i]! += biases[columns[i % columns.length]!]!;
      }
      if (noise && !rounding && attributes.weightFormat) addQuantisationNoise(op, recipes, context, rows, columns, out);
      return out;
    },
  };
  return op;
}

/** Without a recipe, the error of an element reaches as far as any legal way of rounding weights and operands takes it. */
function addQuantisationNoise(
  op: Op,
  recipes: readonly Recipe[],
  context: OpContext,
  rows: Int32Array,
  columns: Int32Array,
  out: MutableBlock,
): void {
  const { store } = context.precision;
  const farthest = new Float64Array(out.value.length);
  for (const { settings } of recipes) {
    if ((settings.weight === undefined && settings.operand === undefined) || settings.biasAfter) continue;
    const { value } = op.evaluate({ ...context, noise: false, rounding: { store, settings } }, rows, columns);
    for (let i = 0; i < value.length; i++) farthest[i] = Math.max(farthest[i]!, Math.abs(value[i]! - out.value[i]!));
  }
  for (let i = 0; i < farthest.length; i++) out.variance[i]! += farthest[i]! ** 2;
}

/** Of a narrow running sum: its own flips, and what the operands' uncertainty makes of the sum. */
function addAccumulatorNoise(
  products: Products,
  accumulator: Accumulator,
  first: number,
  x: Block,
  out: MutableBlock,
  at: number,
): void {
  const { w, xStart, wStart, n } = products;
  const { variance, jump } = accumulatorNoise(products, accumulator, first);
  const { reaching, jump: reachingJump } = sums({ x, xStart, w, wStart }, 0, n);
  out.variance[at] = variance + reaching;
  raiseJump(out, at, Math.max(jump, reachingJump));
}

/** x [rows, inputs] as it is multiplied; an unrecorded one may have been rounded to either of two neighbours. */
export function operandOf(context: OpContext, rows: Int32Array, product: QuantisedProduct | undefined): Block {
  const { rounding } = context;
  const operand = product?.operands[Number(rounding?.settings.operand ?? -1)];
  if (operand) {
    const arithmetic = rounding!.settings.fake ? rounding!.store : undefined;
    const op = quantised({ ...operand.quantisation, arithmetic });
    return op.evaluate(context, rows, indices(context.width(0)));
  }
  const x = context.input(0, rows);
  if (!rounding?.settings.tf32) return x;
  const value = x.value.slice();
  roundToFormat(value, tf32Format);
  if (x.variance.every((v) => v === 0)) return { ...x, value };
  const variance = x.variance.map((v, i) => flipVariance(x.value[i]!, v, tf32Format, x.jump?.[i]));
  const jump = variance.map((v, i) => (v > 0 ? Math.max(x.jump?.[i] ?? 0, unitInLastPlace(value[i]!, tf32Format)) : 0));
  return { ...x, value, variance, jump };
}

/** First terms of the parts of the sum, and its end. */
function boundsOf(n: number, rounding: OpRounding | undefined): number[] {
  const count = Number(rounding?.settings.parts ?? 1);
  if (count === 1 || n < 2 * count) return [0, n];
  if (rounding?.settings.even) {
    // The first parts are a term longer where it does not come out even.
    const short = Math.floor(n / count);
    return Array.from({ length: count + 1 }, (_, i) => i * short + Math.min(i, n % count));
  }
  const size = n >= 64 * count ? Math.ceil(n / count / 64) * 64 : Math.ceil(n / count);
  return [...Array.from({ length: Math.ceil(n / size) }, (_, i) => i * size), n];
}

/** One output element: a row of x and a row of W, each with its start. */
interface Factors {
  readonly x: Block;
  readonly xStart: number;
  readonly w: Float64Array;
  readonly wStart: number;
}

const stored = new Float64Array(1);

function sumOfParts({ arithmetic, rounding }: OpContext, f: Factors, bounds: readonly number[]): number {
  let sum = 0;
  for (let p = 0; p + 1 < bounds.length; p++) {
    const first = bounds[p]!;
    stored[0] = arithmetic.dot(f.x.value, f.xStart + first, f.w, f.wStart + first, bounds[p + 1]! - first);
    roundAll(stored, rounding!.store);
    stored[0]! += sum;
    if (rounding!.settings.running) roundAll(stored, rounding!.store);
    sum = stored[0]!;
  }
  return sum;
}

/** Order of summation, what the operands' own uncertainty makes of the sum, and flips of parts that are stored. */
function elementNoise(
  context: OpContext,
  f: Factors,
  bounds: readonly number[],
  bias: number,
  out: MutableBlock,
  at: number,
): void {
  const { precision, rounding } = context;
  const operand = rounding ? 0 : operandVariance(precision);
  const matrix = precision.store !== "float32" || precision.compute === "tf32" || rounding?.settings.tf32 === true;
  const parts = bounds.length - 1;
  const running = parts > 1 && rounding?.settings.running ? new RunningSum(rounding.store) : undefined;
  let total = 0;
  let squaresOfAll = 0;
  let partialSquares = 0;
  for (let p = 0; p < parts; p++) {
    const n = bounds[p + 1]! - bounds[p]!;
    const part = sums(f, bounds[p]!, n);
    const { sum, squares, path } = part;
    let variance = squares * operand + (matrix ? matrixVariance : accumulationVariance)(sum, squares, n, path);
    variance += part.reaching;
    let { jump } = part;
    if (parts > 1 || rounding?.settings.biasAfter) {
      variance = flipVariance(sum, variance, rounding!.store, jump);
      const format = floatFormat(rounding!.store);
      if (variance > 0 && format) jump = Math.max(jump, unitInLastPlace(sum, format));
    }
    raiseJump(out, at, jump);
    if (running) running.add(roundTo(sum, rounding!.store), variance, jump);
    else total += variance;
    squaresOfAll += squares;
    partialSquares += part.partialSquares / n;
  }
  if (running) {
    total = running.variance;
    raiseJump(out, at, running.jump);
  }
  if (!rounding && precision.store !== "float32") {
    // Parts of the sum may have been stored on their way (PyTorch allows that on CUDA), up to eight and their running sums,
    // and the product before its bias.
    total += largestStoreVariance(squaresOfAll + mostParts * partialSquares, precision.store);
    if (bias !== 0) total += storeVariance(out.value[at]!, precision.store);
  }
  // A sum that starts from its bias carries the bias through all its roundings; added to a stored product it is exact.
  const carried = rounding?.settings.biasAfter ? 0 : 2 * computeVariance * bounds.at(-1)! * bias * bias;
  out.variance[at] = total + carried;
  // Σ|term| is at most sqrt(n Σ term²).
  if (squaresOfAll * bounds.at(-1)! > float32Max * float32Max || Number.isNaN(squaresOfAll)) {
    out.range ??= new Uint8Array(out.value.length);
    out.range[at] = mayBe.infinite | mayBe.notANumber;
  }
}

/** Parts of a sum that is split along its terms, at most. */
const mostParts = 8;

/** Terms below this share of a partial sum are so few ulps of it that what rounding takes of them is not random. */
const nearUlp = 2 ** -18;

/** Σ w·x, Σ w²·x², the partial sums' path, Σ w²·variance and the largest |w|·jump of `n` terms from `first`. */
function sums({ x, xStart, w, wStart }: Factors, first: number, n: number) {
  let sum = 0;
  let squares = 0;
  let partials = 0;
  let partialSquares = 0;
  let reaching = 0;
  let jump = 0;
  let largest = 0;
  let small = 0;
  for (let k = first; k < first + n; k++) {
    const weight = w[wStart + k]!;
    const term = weight * x.value[xStart + k]!;
    sum += term;
    const size = Math.abs(sum);
    if (size > largest) largest = size;
    if (Math.abs(term) < nearUlp * size) small++;
    squares += term * term;
    partials += sum;
    partialSquares += sum * sum;
    const variance = usableVariance(x, xStart + k);
    // An infinite variance times a zero weight: that input does not reach this output.
    if (variance !== 0 && weight !== 0) reaching += weight * weight * variance;
    if (x.jump) jump = Math.max(jump, Math.abs(weight) * x.jump[xStart + k]!);
  }
  const many = small > n / 64;
  const lost = many ? stagnation(largest, n, (k) => w[wStart + first + k]! * x.value[xStart + first + k]!) : 0;
  const path = longerPath(sum, n, partials, partialSquares);
  return { sum, squares, partialSquares, path, reaching: reaching + lost * lost, jump };
}
