import { roundTo } from "../../tensor/dtype.js";
import { computeVariance, largestStoreVariance } from "../noise.js";
import {
  indices as allOf,
  type Block,
  emptyBlock,
  type MutableBlock,
  type Op,
  type OpContext,
  raiseJump,
  scaled,
  storedVariance,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";
import { RunningSum } from "../running-sum.js";

export interface CombineAttributes {
  readonly topK: number;
  /** Row and slot whose weight a slot gets; its own unless a rewrite says otherwise. */
  readonly weightFrom?: (row: number, slot: number) => readonly [row: number, slot: number];
  /** What becomes of a slot's weight, where a rewrite says so: 0 for an output that was dropped. */
  readonly weightOf?: (weight: number, row: number, slot: number) => number;
}

/** Where the weighted sum rounds, and in which order it runs where partial sums are stored. */
interface CombineRounding {
  readonly weights: boolean;
  readonly products: boolean;
  readonly sums: "float32" | "by-expert" | "by-slot";
}

function recipe(id: string, title: string, known: string[], settings: CombineRounding): Recipe {
  return { id, title, known, settings: { ...settings } };
}

export const combineRecipes: readonly Recipe[] = [
  recipe(
    "products-rounded",
    "weighted outputs are rounded, their sum is float32 with one rounding",
    ["Hugging Face grouped_mm and batched_mm", "vLLM's and SGLang's moe_sum"],
    { weights: false, products: true, sums: "float32" },
  ),
  recipe("float32", "weights, products and sum in float32, one rounding", ["fused kernels", "float32 weights"], {
    weights: false,
    products: false,
    sums: "float32",
  }),
  recipe(
    "by-expert",
    "weighted outputs are rounded and added one expert after the other, each sum rounded",
    ["Hugging Face's eager loop: index_add_"],
    { weights: false, products: true, sums: "by-expert" },
  ),
  recipe(
    "by-slot",
    "weighted outputs are rounded and added slot by slot, each sum rounded",
    ["loops over the chosen experts"],
    { weights: false, products: true, sums: "by-slot" },
  ),
  recipe("weights-rounded", "weights are rounded first, products and sum in float32, one rounding", ["fused kernels"], {
    weights: true,
    products: false,
    sums: "float32",
  }),
  recipe(
    "weights-and-products-rounded",
    "weights and weighted outputs are rounded, their sum is float32 with one rounding",
    ["kernels that take weights in 16 bits"],
    { weights: true, products: true, sums: "float32" },
  ),
];

/**
 * Σ over slots of weight · output: inputs are the experts' outputs [rows, topK × columns], their weights [rows, topK] and the
 * indices [rows, topK], which tell in which order a loop over experts adds.
 */
export function combineExperts(attributes: CombineAttributes): Op {
  const { topK, weightOf } = attributes;
  return {
    kind: "combine-experts",
    attributes: { ...attributes },
    recipes: combineRecipes,
    evaluate(context, rows, columns) {
      const width = context.width(0) / topK;
      const made = context.input(0, rows, slotColumns(columns, width, topK));
      const weights = weightsOf(context, rows, attributes);
      const chosen = context.input(2, rows);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      for (let r = 0; r < rows.length; r++) {
        const order = orderOf(context, chosen, r * topK, topK);
        const own = Float64Array.from({ length: topK }, (_, slot) => {
          const weight = weights.value[r * topK + slot]!;
          return weightOf?.(weight, rows[r]!, slot) ?? weight;
        });
        const row: CombinedRow = { made, weights, own, order, first: r * topK };
        for (let c = 0; c < columns.length; c++) combine(context, row, columns.length, c, out, r * columns.length + c);
      }
      return out;
    },
  };
}

/** The weights that rows and slots are combined with, [rows, topK]. */
function weightsOf(context: OpContext, rows: Int32Array, { topK, weightFrom }: CombineAttributes): Block {
  if (!weightFrom) return context.input(1, rows);
  const sources = Array.from(rows).flatMap((row) => Array.from({ length: topK }, (_, slot) => weightFrom(row, slot)));
  const from = Int32Array.from(new Set(sources.map(([row]) => row)));
  const place = new Map(Array.from(from, (row, i) => [row, i * topK]));
  const block = context.input(1, from);
  const at = sources.map(([row, slot]) => place.get(row)! + slot);
  const take = (values: Float64Array) => Float64Array.from(at, (i) => values[i]!);
  return {
    value: take(block.value),
    variance: block.variance.length > 0 ? take(block.variance) : block.variance,
    jump: block.jump && take(block.jump),
  };
}

/** The same columns of every slot, slot by slot. */
function slotColumns(columns: Int32Array, width: number, topK: number): Int32Array {
  const out = new Int32Array(columns.length * topK);
  for (let slot = 0; slot < topK; slot++) {
    for (let c = 0; c < columns.length; c++) out[slot * columns.length + c] = slot * width + columns[c]!;
  }
  return out;
}

function orderOf({ rounding }: OpContext, chosen: Block, start: number, topK: number): Int32Array {
  const order = allOf(topK);
  if (rounding?.settings.sums !== "by-expert") return order;
  return order.sort((a, b) => chosen.value[start + a]! - chosen.value[start + b]!);
}

interface CombinedRow {
  readonly made: Block;
  readonly weights: Block;
  readonly own: Float64Array;
  readonly order: Int32Array;
  /** Where the row's slots begin in weights; its outputs lie as far apart as slots × columns. */
  readonly first: number;
}

function combine(context: OpContext, row: CombinedRow, width: number, c: number, out: MutableBlock, at: number): void {
  const { made, weights, own, order, first } = row;
  const { noise, rounding, precision } = context;
  const settings = rounding?.settings as unknown as CombineRounding | undefined;
  const store = rounding?.store ?? precision.store;
  const rounded = (value: number, wanted: boolean | undefined) => (wanted ? roundTo(value, store) : value);
  const storesSums = settings !== undefined && settings.sums !== "float32";
  const running = noise && storesSums ? new RunningSum(store) : undefined;
  let sum = 0;
  let variance = 0;
  let squares = 0;
  let partialSquares = 0;
  for (const slot of order) {
    const i = (first + slot) * width + c;
    const weight = rounded(own[slot]!, settings?.weights);
    const exact = weight * made.value[i]!;
    const product = rounded(exact, settings?.products);
    squares += exact * exact;
    const before = sum + product;
    sum = rounded(before, storesSums);
    partialSquares += sum * sum;
    if (!noise) continue;
    const smooth =
      scaled(weight * weight, usableVariance(made, i)) +
      scaled(made.value[i]! ** 2, usableVariance(weights, first + slot)) +
      inFloat32(exact);
    if (made.jump) raiseJump(out, at, Math.abs(weight) * made.jump[i]!);
    if (weights.jump) raiseJump(out, at, Math.abs(made.value[i]!) * weights.jump[first + slot]!);
    const ofProduct = settings?.products ? storedVariance(out, at, exact, smooth, store) : smooth;
    variance += ofProduct;
    running?.add(product, ofProduct + inFloat32(before), out.jump?.[at] ?? 0);
  }
  out.value[at] = sum;
  if (!noise) return;
  if (running) {
    out.variance[at] = running.variance;
    raiseJump(out, at, running.jump);
    return;
  }
  // Weights, products and partial sums may each have been stored on their way.
  const stores = rounding ? 0 : largestStoreVariance(2 * squares + partialSquares, store);
  out.variance[at] = variance + stores + computeVariance * order.length * (squares + sum * sum);
}

/** Variance of a number's rounding to float32: none where it is one, as a product of two bfloat16 numbers is. */
function inFloat32(value: number): number {
  return Math.fround(value) === value ? 0 : value * value * computeVariance;
}
