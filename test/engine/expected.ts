import { expect } from "vitest";
import { Evaluator } from "../../src/spec/evaluator.js";
import { Graph } from "../../src/spec/graph.js";
import { type Precision, storeVariance } from "../../src/spec/noise.js";
import type { Op } from "../../src/spec/op.js";
import { RowTable, type Step } from "../../src/spec/rows.js";
import type { ParameterReader } from "../../src/tensor/checkpoint.js";
import type { DType } from "../../src/tensor/dtype.js";

export interface Input {
  readonly columns: number;
  /** [rows, columns] */
  readonly values: ArrayLike<number>;
}

export interface Expectation {
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
    ...inputs.map((input, i) => ({ name: names[i]!, op, inputs: [], columns: input.columns })),
    { name: "output", op, inputs: names, columns },
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
  return { value: block.value, variance };
}

/** rms and largest |z| of what a kernel made. */
export function scores(observed: ArrayLike<number>, { value, variance }: Expectation): { rms: number; max: number } {
  expect(observed.length).toBe(value.length);
  let squares = 0;
  let max = 0;
  for (let i = 0; i < value.length; i++) {
    const difference = observed[i]! - value[i]!;
    // Below float32's normal range WGSL may flush to zero.
    const z = Math.abs(difference) < 2 ** -126 ? 0 : difference / Math.sqrt(variance[i]!);
    squares += z * z;
    max = Math.max(max, Number.isNaN(z) ? Infinity : Math.abs(z));
  }
  return { rms: Math.sqrt(squares / Math.max(1, value.length)), max };
}

/** A correct kernel has an rms of z of about one at most. Sums of few terms have heavier tails than a normal variate. */
export function expectRounding(observed: ArrayLike<number>, expectation: Expectation, what: string): void {
  const { rms, max } = scores(observed, expectation);
  expect(rms, `${what}: rms of z`).toBeLessThan(1.25);
  expect(max, `${what}: largest |z|`).toBeLessThan(10);
}
