import { describe, expect, it } from "vitest";
import { recipesOf } from "../../src/spec/ops/linear-recipes.js";
import { weightRows } from "../../src/spec/ops/linear-weights.js";
import { narrowFormats } from "../../src/tensor/narrow-format.js";
import type { QuantisedParameter } from "../../src/tensor/quantised-parameter.js";
import { e4m3, nearestE4m3, nearestFloat16 } from "./hand-rounding.js";

const numbers = Float64Array.from([...e4m3, ...e4m3.map((x) => -x)]);
const quantisation = {
  format: narrowFormats.e4m3,
  tile: { rows: 1, columns: Infinity },
  scaling: "magnitude",
  scaleType: "float32",
} as const;
const recipes = recipesOf(false, {
  operands: [{ quantisation, id: "e4m3-scale-per-token", title: "e4m3" }],
  mergedScale: 1,
}).filter(({ settings }) => settings.weight === "merged");

/** A weight that is one row of every number of e4m3. */
function everyNumber(scale: number): QuantisedParameter {
  return {
    shape: [1, numbers.length],
    dtype: "float32",
    operands: [],
    misreadings: [],
    tensorScale: () => scale,
    misread: () => everyNumber(scale),
    rows: () => numbers.map((x) => x * scale),
  };
}

const scales = Array.from({ length: 60 }, (_, i) => Math.fround(1e-5 * 1.17 ** i));

describe("fp8 numbers requantised to the scale of merged projections", () => {
  it.each(recipes.map((recipe) => [recipe.id, recipe] as const))("%s", (_, { settings, known }) => {
    expect(known).toEqual(["vLLM merged scales"]);
    for (const [i, own] of scales.entries()) {
      const merged = scales[Math.min(scales.length - 1, i + (i % 7))]!;
      const parameters = {
        quantised: () => everyNumber(own),
        rows: () => numbers,
        shape: () => undefined,
        names: () => [],
      };
      const found = weightRows(parameters, "w", 0, 1, { store: "bfloat16", settings }, merged);
      const factor = settings.narrow ? nearestFloat16(own) : own;
      numbers.forEach((number, at) => {
        const held = nearestFloat16(number * factor);
        const quotient = settings.reciprocal ? held * Math.fround(1 / merged) : held / merged;
        expect(found[at]! / merged).toBeCloseTo(nearestE4m3(Math.fround(quotient)), 9);
      });
    }
  });

  it("are four ways to round", () => expect(recipes.length).toBe(4));
});
