import { describe, expect, it } from "vitest";
import { compareBlock, statisticsOf } from "../../src/diagnose/statistics.js";
import { RoundedArithmetic } from "../../src/spec/arithmetic.js";
import { accumulationVariance, computeVariance, storeVariance, tf32Variance } from "../../src/spec/noise.js";
import { indices } from "../../src/spec/op.js";
import { activation } from "../../src/spec/ops/activation.js";
import { add } from "../../src/spec/ops/add.js";
import { attention } from "../../src/spec/ops/attention.js";
import { linear } from "../../src/spec/ops/linear.js";
import { multiply } from "../../src/spec/ops/multiply.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { rope } from "../../src/spec/ops/rope.js";
import { type DType, roundTo } from "../../src/tensor/dtype.js";
import { evaluatorOf, normal, parametersOf, type SingleOp } from "./single-op.js";

describe("one store", () => {
  it.each(["bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2"] as DType[])(
    "to %s errs as predicted, for normal numbers",
    (dtype) => {
      const values = normal(4000, 5, 3);
      let squares = 0;
      let predicted = 0;
      for (const value of values) {
        squares += (roundTo(value, dtype) - value) ** 2;
        predicted += storeVariance(value, dtype);
      }
      expect(Math.sqrt(squares / predicted)).toBeGreaterThan(0.93);
      expect(Math.sqrt(squares / predicted)).toBeLessThan(1.07);
    },
  );

  it("has an absolute floor among subnormals, none for integers, and none beyond the range", () => {
    expect(storeVariance(1e-12, "float16")).toBe(2 ** -48 / 12);
    expect(storeVariance(0, "float16")).toBe(2 ** -48 / 12);
    expect(storeVariance(3, "int64")).toBe(0);
    expect(storeVariance(Infinity, "bfloat16")).toBe(0);
    expect(storeVariance(1, "bfloat16")).toBe(2 ** -14 / 12);
  });
});

describe("constants", () => {
  it("average the square of an ulp over a binade: between value·2^-24 and value·2^-23", () => {
    let sum = 0;
    const steps = 10000;
    for (let i = 0; i < steps; i++) sum += (2 ** -23 / 2 ** (i / steps)) ** 2 / 12;
    expect(computeVariance / (sum / steps)).toBeGreaterThan(0.8);
    expect(computeVariance / (sum / steps)).toBeLessThan(1.25);
    expect(tf32Variance / computeVariance).toBe(2 ** 26);
  });

  it.each([1, 8, 64])("bound the error of a float32 sum in partial sums of %d terms", (block) => {
    for (const [n, mean] of [
      [256, 0],
      [256, 1],
      [2048, 0],
      [2048, 1],
    ] as const) {
      const arithmetic = new RoundedArithmetic({ store: "float32", roundBetween: false, block, reversed: false });
      let squares = 0;
      let predicted = 0;
      for (let trial = 0; trial < 40; trial++) {
        const terms = normal(n, trial + 1).map((v) => Math.fround(v + mean));
        const sum = terms.reduce((a, b) => a + b, 0);
        squares += (arithmetic.sum(terms, 0, n) - sum) ** 2;
        predicted += accumulationVariance(
          sum,
          terms.reduce((a, b) => a + b * b, 0),
          n,
        );
      }
      const ratio = Math.sqrt(squares / predicted);
      expect(ratio, `${n} terms of mean ${mean}`).toBeLessThan(1.3);
      if (block === 1) expect(ratio, `${n} terms of mean ${mean}`).toBeGreaterThan(0.5);
    }
  });
});

const rowCount = 12;
const orders = [
  { block: 1, reversed: false },
  { block: 16, reversed: true },
];
const weights = normal(96 * 64, 31, 0.2);
const cases: Record<string, Omit<SingleOp, "inputs"> & { widths: number[] }> = {
  rmsnorm: {
    op: rmsNorm({ weight: "norm", epsilon: 1e-6, width: 64 }),
    widths: [64],
    columns: 64,
    parameters: parametersOf({ norm: { shape: [64], values: normal(64, 30, 0.5).map((v) => v + 1) } }),
  },
  linear: {
    op: linear({ weight: "w" }),
    widths: [64],
    columns: 96,
    parameters: parametersOf({ w: { shape: [96, 64], values: weights } }),
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
  activation: { op: activation("silu"), widths: [64], columns: 64 },
  add: { op: add(), widths: [64, 64], columns: 64 },
  multiply: { op: multiply(), widths: [64, 64], columns: 64 },
};

/** rms z of one rounded implementation against the spec, inputs exactly as recorded. */
function rmsZ(
  name: string,
  store: DType,
  roundBetween: boolean,
  order: (typeof orders)[number],
  digitsLost = false,
  allowed = digitsLost,
): number {
  const { widths, ...rest } = cases[name]!;
  const kept = widths.map((columns, i) => ({ columns, values: normal(rowCount * columns, 40 + i) }));
  const stored = kept.map(({ columns, values }) => ({ columns, values: values.map((v) => roundTo(v, store)) }));
  const base = { ...rest, precision: { store, compute: "float32" as const }, dtype: store, exact: !allowed };
  const arithmetic = new RoundedArithmetic({ store, roundBetween, ...order });
  const implementation = evaluatorOf({ ...base, inputs: digitsLost ? kept : stored, arithmetic });
  const spec = evaluatorOf({ ...base, inputs: stored, noise: true });
  const rows = indices(rowCount);
  const columns = indices(base.columns);
  const observed = implementation.read("out", rows, "").value;
  return statisticsOf(compareBlock(spec.evaluate("out", rows, columns), observed, store, rows, columns)).rmsZ;
}

describe("propagated noise", () => {
  for (const store of ["bfloat16", "float16", "float32"] as const) {
    for (const roundBetween of [true, false]) {
      it.each(Object.keys(cases))(
        `of %s covers ${store}, ${roundBetween ? "rounded" : "kept"} between its steps`,
        (name) => {
          for (const order of orders) {
            const z = rmsZ(name, store, roundBetween, order);
            expect(z).toBeLessThan(1.4);
            // Within an order of magnitude: a prediction that is far too wide would hide faults.
            expect(z).toBeGreaterThan(0.1);
          }
        },
      );
    }
  }

  it.each(Object.keys(cases))("of %s allows for a fused producer that kept more digits than it stored", (name) => {
    const z = rmsZ(name, "bfloat16", false, orders[0]!, true);
    expect(z).toBeLessThan(1.4);
    expect(z).toBeGreaterThan(0.3);
    expect(rmsZ(name, "bfloat16", false, orders[0]!, true, false), "without the allowance").toBeGreaterThan(1.1 * z);
  });
});
