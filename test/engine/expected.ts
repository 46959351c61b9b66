import { expect } from "vitest";
import { excess, surpriseLimit } from "../../src/diagnose/bits/limits.js";
import { type Statistics, statisticsOf } from "../../src/diagnose/bits/statistics.js";
import { Evaluator } from "../../src/spec/evaluator.js";
import { Graph } from "../../src/spec/graph.js";
import { type Precision, storeVariance } from "../../src/spec/noise.js";
import { indices, type Op } from "../../src/spec/op.js";
import { activation } from "../../src/spec/ops/activation.js";
import { type Recipe, UnitRecipe } from "../../src/spec/recipe.js";
import { RowTable, type Step } from "../../src/spec/rows.js";
import { outsideLayers } from "../../src/spec/site.js";
import type { ParameterReader } from "../../src/tensor/checkpoint.js";
import type { DType } from "../../src/tensor/dtype.js";

export interface Input {
  readonly columns: number;
  /** [rows, columns] */
  readonly values: ArrayLike<number>;
}

/** [rows, columns] */
export interface Expectation {
  /** Of the op whose limits apply. */
  readonly kind: string;
  readonly columns: number;
  readonly value: Float64Array;
  readonly variance: Float64Array;
}

export const float32: Precision = { store: "float32", compute: "float32" };

/** What the spec says one op makes of `inputs`, with the variance rounding may show. */
export function expected(
  op: Op,
  inputs: readonly Input[],
  columns: number,
  options: {
    parameters?: Record<string, { shape: number[]; values: ArrayLike<number> }>;
    steps?: readonly Step[];
    rows?: Int32Array;
    precision?: Precision;
    store?: DType;
    /** How the op rounds inside; undefined covers every way that float32 has. */
    recipe?: Recipe | undefined;
  } = {},
): Expectation {
  const table = new RowTable();
  const rowCount = inputs[0] ? inputs[0].values.length / inputs[0].columns : 0;
  for (const step of options.steps ?? [
    { step: 0, seqIds: [0], tokenIds: new Int32Array(rowCount), qoIndptr: [0, rowCount] },
  ]) {
    table.append(step);
  }
  const names = inputs.map((_, i) => `input${i}`);
  const graph = new Graph([
    ...inputs.map((input, i) => ({ ...outsideLayers(names[i]!, "hidden"), op, inputs: [], columns: input.columns })),
    { ...outsideLayers("output", "hidden"), op, inputs: names, columns },
  ]);
  const given = options.parameters ?? {};
  const parameters: ParameterReader = {
    names: () => Object.keys(given),
    shape: (name) => given[name]?.shape,
    rows(name, first, count) {
      const { shape, values } = given[name]!;
      const width = shape.length > 1 ? shape[1]! : shape[0]!;
      return Float64Array.from({ length: count * width }, (_, i) => values[first * width + i]!);
    },
  };
  const precision = options.precision ?? float32;
  const evaluator = new Evaluator({
    graph,
    parameters,
    rows: table,
    precision,
    noise: true,
    ...(options.recipe && { recipe: new UnitRecipe("float32", new Map([["output", options.recipe]])) }),
    observations: {
      has: (name) => names.includes(name),
      row(name, row) {
        const input = inputs[names.indexOf(name)]!;
        const value = Float64Array.from({ length: input.columns }, (_, c) => input.values[row * input.columns + c]!);
        return { value, dtype: "float32", exact: true };
      },
    },
  });
  const block = evaluator.evaluate("output", options.rows ?? Int32Array.from({ length: table.count }, (_, i) => i));
  const variance = block.variance.map((v, i) => v + storeVariance(block.value[i]!, options.store ?? precision.store));
  return { kind: op.kind, columns, value: block.value, variance };
}

/** The checker's statistics of what a kernel made. */
export function statisticsFor(observed: ArrayLike<number>, { value, variance, columns }: Expectation): Statistics {
  expect(observed.length).toBe(value.length);
  const noise = variance.map(Math.sqrt);
  const z = value.map((expectedValue, i) => {
    const difference = observed[i]! - expectedValue;
    if (Number.isNaN(difference)) return Number.POSITIVE_INFINITY;
    // Below float32's normal range WGSL may flush to zero.
    return Math.abs(difference) < 2 ** -126 ? 0 : difference / noise[i]!;
  });
  return statisticsOf({
    rows: indices(value.length / columns),
    columns: indices(columns),
    expected: value,
    observed: Float64Array.from(observed),
    noise,
    z,
  });
}

/** What a kernel made passes where a recording of it would: one false alarm in a million recordings of this size. */
export function expectRounding(observed: ArrayLike<number>, expectation: Expectation, what: string): void {
  const statistics = statisticsFor(observed, expectation);
  const limit = surpriseLimit(observed.length);
  expect(excess(statistics, limit), `${what}: ${JSON.stringify(statistics)}`).toBeLessThanOrEqual(1);
}

/** A product with the residual added, and with the roundings of the sum before the bias and after the residual. */
export function withResidual(
  product: Expectation,
  o: { bias: Float32Array; residual: Float32Array },
  n: number,
): Expectation {
  const value = product.value.map((v, i) => v + o.residual[i]!);
  const variance = product.variance.map(
    (v, i) => v + storeVariance(product.value[i]! - o.bias[i % n]!, "float32") + storeVariance(value[i]!, "float32"),
  );
  return { ...product, value, variance };
}

/** A product with the variance of the normalised input, which a fused kernel never stored. */
export function withInputNoise(
  product: Expectation,
  input: Expectation,
  weights: Float64Array,
  k: number,
): Expectation {
  const rows = input.value.length / k;
  const n = product.value.length / rows;
  const variance = product.variance.map((v, i) => {
    const row = Math.floor(i / n);
    let sum = v;
    for (let c = 0; c < k; c++) sum += weights[(i % n) * k + c]! ** 2 * input.variance[row * k + c]!;
    return sum;
  });
  return { ...product, variance };
}

/** SiLU(gate) · up of a product whose columns are the gate's, then as many of up. */
export function gatedBy(both: Expectation): Expectation {
  const columns = both.columns / 2;
  const half = (array: Float64Array, first: number) =>
    array.filter((_, i) => Math.floor((i % both.columns) / columns) === first);
  const [gate, up] = [half(both.value, 0), half(both.value, 1)];
  const [gateVariance, upVariance] = [half(both.variance, 0), half(both.variance, 1)];
  const act = expected(activation("silu"), [{ columns, values: gate }], columns);
  const variance = act.value.map(
    (a, i) => up[i]! ** 2 * (act.variance[i]! + gateVariance[i]!) + a * a * upVariance[i]!,
  );
  return { ...both, columns, value: act.value.map((a, i) => a * up[i]!), variance };
}
