import { describe, expect, it } from "vitest";
import { fitScale, type StoredRow } from "../../src/capture/fitted-scale.js";
import { gaussian, randomGenerator } from "../../src/lab/random.js";
import { type DType, roundTo } from "../../src/tensor/dtype.js";
import { quantise } from "../../src/tensor/scaled-type.js";

/** Rows of bfloat16 values and what a cache keeps of them. */
function rowsOf(
  count: number,
  dtype: DType,
  scale: number,
  keep = (x: number) => quantise(x, { dtype, scale }),
): StoredRow[] {
  const random = randomGenerator(9);
  return Array.from({ length: count }, () => {
    const exact = Float64Array.from({ length: 64 }, () => 3 * gaussian(random));
    return {
      value: exact.map((x) => roundTo(x, "bfloat16")),
      recorded: "bfloat16",
      stored: exact.map((x) => keep(roundTo(x, "bfloat16"))),
    };
  });
}

describe("a scale read off the bytes", () => {
  it.each<[DType, number, number]>([
    ["float8_e4m3fn", 1, 0],
    ["float8_e4m3fn", 0.03125, 0],
    ["float8_e5m2", 0.0437, 2e-3],
    ["int8", 0.07, 1e-3],
  ])("of %s under %d", (dtype, scale, error) => {
    const found = fitScale(rowsOf(30, dtype, scale), dtype)!;
    expect(found.error).toBeLessThanOrEqual(error);
    expect(Math.abs(found.scale / scale - 1)).toBeLessThanOrEqual(found.error);
  });

  it("is the one that maps the largest value onto the largest number", () => {
    const rows = rowsOf(30, "float8_e4m3fn", 1);
    const largest = Math.max(...rows.flatMap(({ value }) => [...value].map(Math.abs)));
    const scale = Math.fround(largest / 448);
    const kept = rows.map((row) => ({
      ...row,
      stored: row.value.map((x) => quantise(x, { dtype: "float8_e4m3fn", scale })),
    }));
    expect(fitScale(kept, "float8_e4m3fn")).toEqual({ scale, error: 0 });
  });

  it("is found although the kernel stored what was not rounded yet", () => {
    const random = randomGenerator(4);
    const rows = Array.from({ length: 30 }, (): StoredRow => {
      const exact = Float64Array.from({ length: 64 }, () => 3 * gaussian(random));
      const stored = exact.map((x) => quantise(x, { dtype: "float8_e4m3fn", scale: 0.0437 }));
      return { value: exact.map((x) => roundTo(x, "bfloat16")), recorded: "bfloat16", stored };
    });
    const found = fitScale(rows, "float8_e4m3fn")!;
    expect(Math.abs(found.scale / 0.0437 - 1)).toBeLessThanOrEqual(found.error);
    expect(found.error).toBeLessThan(0.01);
  });

  it("is found although some rows hold something else", () => {
    const rows = rowsOf(30, "float8_e4m3fn", 0.0625).map((row, i) =>
      i % 3 === 0 ? { ...row, stored: row.stored.toReversed() } : row,
    );
    expect(fitScale(rows, "float8_e4m3fn")).toEqual({ scale: 0.0625, error: 0 });
  });

  it.each([
    ["a single row", rowsOf(1, "float8_e4m3fn", 0.5)],
    ["rows of zeros", rowsOf(10, "float8_e4m3fn", 1, () => 0)],
    [
      "rows of other values",
      rowsOf(10, "float8_e4m3fn", 1).map((row) => ({ ...row, stored: row.stored.toReversed() })),
    ],
    [
      "rows each under a scale of its own",
      rowsOf(10, "float8_e4m3fn", 1).map((row, i) => ({
        ...row,
        stored: row.value.map((x) => quantise(x, { dtype: "float8_e4m3fn", scale: 1 + 0.2 * i })),
      })),
    ],
    ["nothing", []],
  ])("is none for %s", (_, rows) => {
    expect(fitScale(rows, "float8_e4m3fn")).toBeUndefined();
  });
});
