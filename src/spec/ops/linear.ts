import { type DType, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { RowProducts } from "../../tensor/row-products.js";
import { exactArithmetic } from "../arithmetic.js";
import { operandFormat } from "../narrow-operands.js";
import { flipVariance } from "../noise.js";
import { type Block, emptyBlock, indices, type MutableBlock, type Op, type OpContext, type OpRounding } from "../op.js";
import type { Recipe } from "../recipe.js";
import { type Accumulator, accumulate } from "./accumulator.js";
import { LinearNoise } from "./linear-noise.js";
import { type QuantisedProduct, recipesOf } from "./linear-recipes.js";
import { weightReader } from "./linear-weights.js";
import { operandFlips } from "./operand-flips.js";
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
      const weights = weightReader(columns, parameters, weight, n, rounding, attributes.weightFormat?.mergedScale);
      const bounds = boundsOf(n, rounding);
      const noises = noise ? new LinearNoise(context, x, bounds, accumulator) : undefined;
      const whole = bounds.length === 2 && !accumulator;
      // What noise is worked out from has the exact sums in it.
      const sumsKnown = noises !== undefined && whole && arithmetic === exactArithmetic;
      const together = noises?.rowsTogether(n) ?? RowProducts.rowsTogether(n);
      for (let from = 0; from < rows.length; from += together) {
        const count = Math.min(together, rows.length - from);
        noises?.place(from, count, n);
        const some = x.value.subarray(from * n, (from + count) * n);
        const products = whole && !sumsKnown ? arithmetic.products(some, count, n, columns.length) : undefined;
        for (let c = 0; c < columns.length; c++) {
          const { values: w, start: wStart } = weights(c);
          const target = { values: out.value, at: from * columns.length + c, stride: columns.length };
          const bias = biases?.[columns[c]!] ?? 0;
          if (accumulator) {
            const first = accumulator.biasFirst ? bias : 0;
            for (let r = 0; r < count; r++)
              out.value[target.at + r * target.stride] = accumulate(
                { x: some, xStart: r * n, w, wStart, n },
                accumulator,
                first,
              );
          } else if (products) products(w, wStart, target);
          else if (!whole)
            for (let r = 0; r < count; r++)
              out.value[target.at + r * target.stride] = sumOfParts(
                context,
                { x: some, xStart: r * n, w, wStart },
                bounds,
              );
          noises?.add({ w, wStart, n, bias }, out, target, sumsKnown);
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
  const flips = operandFlips(op.attributes as unknown as LinearAttributes, context, rows, columns);
  for (let i = 0; i < farthest.length; i++) out.variance[i]! += farthest[i]! ** 2 + (flips?.[i] ?? 0);
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
  const format = operandFormat(rounding?.settings);
  if (!format) return x;
  const value = x.value.slice();
  roundToFormat(value, format);
  if (x.variance.every((v) => v === 0)) return { ...x, value };
  const variance = x.variance.map((v, i) => flipVariance(x.value[i]!, v, format, x.jump?.[i]));
  const jump = variance.map((v, i) => (v > 0 ? Math.max(x.jump?.[i] ?? 0, unitInLastPlace(value[i]!, format)) : 0));
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
  readonly x: Float64Array;
  readonly xStart: number;
  readonly w: Float64Array;
  readonly wStart: number;
}

const stored = new Float64Array(1);

function sumOfParts({ arithmetic, rounding }: OpContext, f: Factors, bounds: readonly number[]): number {
  let sum = 0;
  for (let p = 0; p + 1 < bounds.length; p++) {
    const first = bounds[p]!;
    stored[0] = arithmetic.dot(f.x, f.xStart + first, f.w, f.wStart + first, bounds[p + 1]! - first);
    roundAll(stored, rounding!.store);
    stored[0]! += sum;
    if (rounding!.settings.running) roundAll(stored, rounding!.store);
    sum = stored[0]!;
  }
  return sum;
}
