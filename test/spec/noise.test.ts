import { describe, expect, it } from "vitest";
import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import { compareBlock, statisticsOf } from "../../src/diagnose/bits/statistics.js";
import { RoundedArithmetic } from "../../src/spec/arithmetic.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  storeVariance,
  surprise,
  tf32Variance,
} from "../../src/spec/noise.js";
import { indices } from "../../src/spec/op.js";
import { type DType, roundTo } from "../../src/tensor/dtype.js";
import { implemented, orders, recipesOf, rowCount, singleOp, singleOps } from "./implementations.js";
import { evaluatorOf, normal } from "./single-op.js";

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
      const arithmetic = new RoundedArithmetic({ block, reversed: false });
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

describe("what propagates through an op", () => {
  for (const store of ["bfloat16", "float16", "float32"] as const) {
    it.each(Object.keys(singleOps))(`%s covers every recipe in ${store}`, (name) => {
      for (const recipe of recipesOf(name, store)) {
        for (const order of orders) {
          const observed = implemented(name, recipe, order, store).read("out", indices(rowCount), "").value;
          const spec = evaluatorOf({ ...singleOp(name, store), noise: true });
          const columns = indices(singleOps[name]!.columns);
          const block = spec.evaluate("out", indices(rowCount), columns);
          const { rmsZ } = statisticsOf(compareBlock(block, observed, store, indices(rowCount), columns));
          const what = `${name} ${recipe?.id ?? ""} ${store}`;
          expect(rmsZ, what).toBeLessThan(1.4);
          // Within an order of magnitude: a prediction that is far too wide would hide faults.
          expect(rmsZ, what).toBeGreaterThan(0.08);
        }
      }
    });
  }
});

describe("the probability of an error", () => {
  it("is Gaussian where no single error stands out", () => {
    expect(surprise(6, 1, 0)).toBeCloseTo(18 - Math.LN2, 6);
    expect(surprise(6, 1, 1e-6)).toBeCloseTo(18 - Math.LN2, 3);
  });

  it("bounds what rare jumps really do", () => {
    const jump = 1;
    const chance = 0.002;
    const places = 50;
    const random = randomGenerator(7);
    const variance = places * chance * jump ** 2;
    const counts = [0, 0, 0, 0];
    const trials = 200_000;
    for (let t = 0; t < trials; t++) {
      let sum = 0;
      for (let i = 0; i < places; i++) if (random() < chance) sum += jump;
      for (let k = 1; k < counts.length; k++) if (sum >= k) counts[k]!++;
    }
    for (let k = 1; k < counts.length; k++)
      expect(counts[k]! / trials, `${k} jumps`).toBeLessThanOrEqual(
        2 * Math.exp(-surprise(k, variance, jump) - Math.LN2),
      );
  });

  it("is certain at no distance, and impossible where nothing can err", () => {
    expect(surprise(0, 0, 0)).toBe(0);
    expect(surprise(1e-9, 0, 0)).toBe(Infinity);
    expect(surprise(1e9, Infinity, 0)).toBe(0);
  });
});

describe("a value that is stored", () => {
  it("errs only where another neighbour is within reach", () => {
    const ulp = 2 ** -7;
    expect(flipVariance(1 + 0.2 * ulp, (1e-4 * ulp) ** 2, "bfloat16")).toBe(0);
    const middle = flipVariance(1 + 0.5 * ulp, (1e-4 * ulp) ** 2, "bfloat16");
    expect(middle).toBeCloseTo(ulp * ulp, 12);
    expect(flipVariance(1 + 0.5 * ulp, 0, "bfloat16")).toBe(0);
  });
});
