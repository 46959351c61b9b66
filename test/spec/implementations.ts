import { RoundedArithmetic } from "../../src/spec/arithmetic.js";
import type { Evaluator } from "../../src/spec/evaluator.js";
import { operandFormat } from "../../src/spec/narrow-operands.js";
import { activation } from "../../src/spec/ops/activation.js";
import { add } from "../../src/spec/ops/add.js";
import { attention } from "../../src/spec/ops/attention.js";
import { clampedSwiglu } from "../../src/spec/ops/clamped-swiglu.js";
import { combineExperts } from "../../src/spec/ops/combine-experts.js";
import { expertLinear } from "../../src/spec/ops/expert-linear.js";
import { linear } from "../../src/spec/ops/linear.js";
import { multiply } from "../../src/spec/ops/multiply.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { rope } from "../../src/spec/ops/rope.js";
import type { Routing } from "../../src/spec/ops/routing.js";
import { routingWeights } from "../../src/spec/ops/routing-weights.js";
import { scaleRows } from "../../src/spec/ops/scale-rows.js";
import { type Recipe, UnitRecipe } from "../../src/spec/recipe.js";
import { type DType, roundTo } from "../../src/tensor/dtype.js";
import { evaluatorOf, normal, parametersOf, type SingleOp } from "./single-op.js";

export const rowCount = 24;

/** Two orders in which float32 kernels sum. */
export const orders = [
  { block: 1, reversed: false },
  { block: 16, reversed: true },
];

const weights = normal(96 * 64, 31, 0.2).map((w) => roundTo(w, "bfloat16"));
const bias = normal(96, 33, 0.5).map((b) => roundTo(b, "bfloat16"));

const routing: Routing = { experts: 8, topK: 2, scoring: "softmax", renormalised: true, scale: 1 };

/** Every op that computes something, on 24 rows of one sequence. `choices` are inputs that hold experts, of so many. */
export const singleOps: Record<
  string,
  Omit<SingleOp, "inputs"> & { readonly widths: readonly number[]; readonly choices?: Record<number, number> }
> = {
  rmsnorm: {
    op: rmsNorm({ weight: "norm", epsilon: 1e-6, width: 64 }),
    widths: [64],
    columns: 64,
    parameters: parametersOf({
      norm: { shape: [64], values: normal(64, 30, 0.5).map((v) => roundTo(v + 1, "bfloat16")) },
    }),
  },
  linear: {
    op: linear({ weight: "w" }),
    widths: [64],
    columns: 96,
    parameters: parametersOf({ w: { shape: [96, 64], values: weights } }),
  },
  "linear with bias": {
    op: linear({ weight: "w", bias: "b" }),
    widths: [64],
    columns: 96,
    parameters: parametersOf({ w: { shape: [96, 64], values: weights }, b: { shape: [96], values: bias } }),
  },
  rope: {
    op: rope({
      headDim: 16,
      rotaryDim: 16,
      inverseFrequencies: Float64Array.from({ length: 8 }, (_, j) => 10000 ** (-j / 8)),
      attentionFactor: 1,
      pairing: "half",
    }),
    widths: [64],
    columns: 64,
  },
  attention: {
    op: attention({ heads: 4, keyValueHeads: 2, headDim: 16, scale: 0.25 }),
    widths: [64, 32, 32],
    columns: 64,
  },
  "attention with sinks": {
    op: attention({ heads: 4, keyValueHeads: 2, headDim: 16, scale: 0.25, sink: "sinks" }),
    widths: [64, 32, 32],
    columns: 64,
    parameters: parametersOf({ sinks: { shape: [4], values: [0.5, -2, 3, 1] } }),
  },
  activation: { op: activation("silu"), widths: [64], columns: 64 },
  add: { op: add(), widths: [64, 64], columns: 64 },
  multiply: { op: multiply(), widths: [64, 64], columns: 64 },
  "routing weights": { op: routingWeights(routing), widths: [8, 2], columns: 2, choices: { 1: 8 } },
  "routing weights of sigmoids": {
    op: routingWeights({ ...routing, scoring: "sigmoid", scale: 2.5 }),
    widths: [8, 2],
    columns: 2,
    choices: { 1: 8 },
  },
  "expert linear": {
    op: expertLinear({ weight: "w", bias: "b", topK: 2, width: 24, ownInputs: false }),
    widths: [64, 2],
    columns: 48,
    choices: { 1: 4 },
    parameters: parametersOf({ w: { shape: [4, 24 * 64], values: weights }, b: { shape: [4, 24], values: bias } }),
  },
  "combine experts": {
    op: combineExperts({ topK: 2 }),
    widths: [128, 2, 2],
    columns: 64,
    choices: { 2: 8 },
  },
  "clamped swiglu": { op: clampedSwiglu({ alpha: 1.702, limit: 2 }), widths: [64, 64], columns: 64 },
  "scale rows": { op: scaleRows(), widths: [64, 1], columns: 64 },
};

/** An op between inputs that were stored in `store`, exactly as its consumer reads them. */
export function singleOp(name: string, store: DType): SingleOp {
  const { widths, choices, ...rest } = singleOps[name]!;
  const inputs = widths.map((columns, i) => ({
    columns,
    values: choices?.[i]
      ? Float64Array.from({ length: rowCount * columns }, (_, k) => (3 * Math.floor(k / columns) + 2 * k) % choices[i]!)
      : normal(rowCount * columns, 40 + i).map((v) => roundTo(v, store)),
  }));
  return { ...rest, inputs, precision: { store, compute: "float32" }, dtype: store, exact: true };
}

/** The recipes of an op that a run in `store` may have; narrow operands are for float32 runs, 16-bit parts for 16-bit ones. */
export function recipesOf(name: string, store: DType): (Recipe | undefined)[] {
  const { recipes } = singleOps[name]!.op;
  if (!recipes) return [undefined];
  return recipes.filter(
    (recipe) =>
      operandFormat(recipe.settings) === undefined &&
      recipe.settings.angle !== "tf32" &&
      !recipe.settings.fastExponential &&
      (store !== "float32" || !recipe.refines),
  );
}

/** A float32 implementation of the op that rounds as `recipe` says and sums in the given order. */
export function implemented(
  name: string,
  recipe: Recipe | undefined,
  order: (typeof orders)[number],
  store: DType,
): Evaluator {
  return evaluatorOf({
    ...singleOp(name, store),
    arithmetic: new RoundedArithmetic(order),
    recipe: new UnitRecipe(store, recipe ? new Map([["out", recipe]]) : new Map()),
  });
}
