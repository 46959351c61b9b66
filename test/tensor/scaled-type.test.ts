import { describe, expect, it } from "vitest";
import { isQuantised, magnitudesOf, mayStore, quantise, recordSpread } from "../../src/tensor/scaled-type.js";

const e4m3 = (scale: number) => ({ dtype: "float8_e4m3fn" as const, scale });
const e5m2 = (scale: number) => ({ dtype: "float8_e5m2" as const, scale });

describe("a number kept under a scale", () => {
  it.each([
    [1.0625, e4m3(1), 1],
    [1.1875, e4m3(1), 1.25],
    [-0.53125, e4m3(0.5), -1],
    [1000, e4m3(1), 448],
    [-1000, e4m3(2), -448],
    [Infinity, e5m2(1), 57344],
    [2.5, { dtype: "int8" as const, scale: 1 }, 2],
    [3.5, { dtype: "int8" as const, scale: 1 }, 4],
    [-2.6, { dtype: "int8" as const, scale: 0.01 }, -128],
    [2.6, { dtype: "int8" as const, scale: 0.01 }, 127],
    [1.00390625, { dtype: "bfloat16" as const, scale: 1 }, 1],
  ])("of %d in %j is %d", (value, type, expected) => {
    expect(quantise(value, type)).toBe(expected);
    expect(mayStore(expected, value, type)).toBe(true);
  });

  it("may overflow to what the type has for it, or saturate", () => {
    expect([448, Number.NaN, 416].map((stored) => mayStore(stored, 1000, e4m3(1)))).toEqual([true, true, false]);
    expect([57344, Infinity, -Infinity].map((stored) => mayStore(stored, 1e6, e5m2(1)))).toEqual([true, true, false]);
    expect(mayStore(Number.NaN, 100, e4m3(1))).toBe(false);
    expect(mayStore(Number.NaN, Number.NaN, e4m3(1))).toBe(true);
    expect(mayStore(0, Number.NaN, e4m3(1))).toBe(false);
  });

  it("may be a neighbour only where the value's own rounding reaches across the middle", () => {
    expect(mayStore(1.125, 1.0624, e4m3(1))).toBe(false);
    expect(mayStore(1.125, 1.0624, e4m3(1), 0.001)).toBe(true);
    expect(mayStore(1.25, 1.0624, e4m3(1), 0.001)).toBe(false);
  });

  it("comes from magnitudes around it", () => {
    for (const stored of [0, 2 ** -9, 0.015625, 1, 1.125, 2, 256, 416]) {
      const [from, to] = magnitudesOf(stored, "float8_e4m3fn");
      const inside = from + (to - from) * 1e-6;
      expect(quantise(inside, e4m3(1)), String(stored)).toBe(stored);
      expect(quantise(to - (to - from) * 1e-6, e4m3(1)), String(stored)).toBe(stored);
      if (stored > 0) expect(quantise(from - (to - from) * 1e-6, e4m3(1))).toBeLessThan(stored);
      expect(quantise(to + (to - from) * 1e-6, e4m3(1))).toBeGreaterThan(stored);
    }
    expect(magnitudesOf(448, "float8_e4m3fn")[1]).toBe(Infinity);
    expect(magnitudesOf(-3, "int8")).toEqual([2.5, 3.5]);
    expect(magnitudesOf(-128, "int8")[1]).toBe(Infinity);
  });

  it("was known to an ulp of its record, unless the type holds the record itself", () => {
    expect(recordSpread(1.5, "bfloat16", e4m3(1))).toBe(2 ** -7);
    expect(recordSpread(1.5, "bfloat16", { dtype: "bfloat16", scale: 1 })).toBe(0);
    expect(recordSpread(1.5, "bfloat16", { dtype: "bfloat16", scale: 2 })).toBe(2 ** -7);
    expect(recordSpread(1.5, "float32", { dtype: "bfloat16", scale: 1 })).toBe(2 ** -23);
    expect(recordSpread(Number.NaN, "bfloat16", e4m3(1))).toBe(0);
    expect(["float8_e5m2", "int8", "bfloat16"].map((dtype) => isQuantised(dtype as "int8"))).toEqual([
      true,
      true,
      false,
    ]);
  });
});
