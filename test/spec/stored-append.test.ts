import { describe, expect, it } from "vitest";
import { indices, mayBe } from "../../src/spec/op.js";
import { storedAppend } from "../../src/spec/ops/stored-append.js";
import { type DType, roundTo } from "../../src/tensor/dtype.js";
import { quantise } from "../../src/tensor/scaled-type.js";
import { evaluatorOf, normal } from "./single-op.js";

const width = 64;

/** What readers get of values recorded in bfloat16, with its variance. */
function appended(values: ArrayLike<number>, dtype: DType, scale: number | undefined, error = 0, exact = false) {
  const op = storedAppend({ dtype, scale, error });
  const inputs = [{ columns: width, values }];
  const evaluator = evaluatorOf({ op, inputs, columns: width, dtype: "bfloat16", exact, noise: true });
  return evaluator.evaluate("out", indices(values.length / width), indices(width));
}

describe("an append to a narrower cache", () => {
  const exact = normal(64 * width, 8, 2);
  const values = exact.map((x) => roundTo(x, "bfloat16"));

  it.each<[DType, number]>([
    ["float8_e4m3fn", 0.07],
    ["float8_e5m2", 1],
    ["int8", 0.05],
  ])("gives back what %s keeps under scale %d, without noise where the record is what was stored", (dtype, scale) => {
    const { value, variance } = appended(values, dtype, scale, 0, true);
    value.forEach((x, i) => {
      expect(x).toBe(quantise(values[i]!, { dtype, scale }) * scale);
    });
    expect(variance.every((v) => v === 0)).toBe(true);
  });

  it("expects every number that an unrounded value may have been kept as", () => {
    const type = { dtype: "float8_e4m3fn" as const, scale: 0.07 };
    const { value, variance } = appended(values, type.dtype, type.scale);
    let moved = 0;
    let free = 0;
    value.forEach((x, i) => {
      const kept = quantise(exact[i]!, type) * type.scale;
      if (kept !== x) {
        moved++;
        expect(Math.abs(kept - x) / Math.sqrt(variance[i]!)).toBeLessThan(6);
      }
      if (variance[i] === 0) free++;
    });
    expect(moved).toBeGreaterThan(10);
    expect(free / value.length).toBeGreaterThan(0.5);
  });

  it("widens with the error of its scale, and does not round under an unknown one", () => {
    const sure = appended(values, "float8_e4m3fn", 0.07);
    const unsure = appended(values, "float8_e4m3fn", 0.07, 0.01);
    expect(unsure.variance.every((v, i) => v >= sure.variance[i]!)).toBe(true);
    const unknown = appended(values, "float8_e4m3fn", undefined);
    expect([...unknown.value]).toEqual([...values]);
    expect(Math.sqrt(unknown.variance[0]!) / Math.abs(values[0]!)).toBeGreaterThan(0.03);
    expect(appended(values, "int8", undefined).variance[0]).toBe(Infinity);
  });

  it("may saturate or not beyond the range", () => {
    const { value, range } = appended(new Float64Array(width).fill(1000), "float8_e4m3fn", 1);
    expect(value[0]).toBe(448);
    expect(range![0]! & mayBe.notANumber).toBeTruthy();
  });
});
