import { expect, it } from "vitest";
import { cellsOf } from "../../src/report/html/cells.js";
import { binCount, binLabel, binsEachSide, ulpBin } from "../../src/report/html/ulp-bins.js";
import { indices } from "../../src/spec/op.js";

it("a cell of many elements shows the one that is furthest off, and what is no number before all others", () => {
  const sample = { rows: indices(300), columns: indices(1000) };
  const ulps = new Float64Array(300_000).fill(1);
  ulps[123 * 1000 + 456] = -7;
  ulps[200 * 1000 + 999] = Number.NaN;
  ulps[200 * 1000 + 998] = 1e30;
  const { down, across, at, whole } = cellsOf(sample, ulps);
  expect(whole).toBe(false);
  expect(down * across).toBeLessThanOrEqual(8192);
  expect(at).toContain(123 * 1000 + 456);
  expect(at).toContain(200 * 1000 + 999);
  expect(at).not.toContain(200 * 1000 + 998);
  expect(new Set(at).size).toBe(down * across);
});

it("few elements have a cell each", () => {
  const cells = cellsOf({ rows: indices(3), columns: indices(4) }, new Float64Array(12));
  expect(cells).toEqual({ down: 3, across: 4, at: Uint32Array.from(indices(12)), whole: true });
});

it("ulps fall into bins by powers of two, negative ones mirrored", () => {
  const places = [0, 1, 2, 3, 4, 5, 8, 9, 1e30].map((ulps) => ulpBin(ulps) - binsEachSide);
  expect(places).toEqual([0, 1, 2, 3, 3, 4, 4, 5, 13]);
  for (const ulps of [1, 2, 3, 9, 1e30]) expect(ulpBin(-ulps)).toBe(2 * binsEachSide - ulpBin(ulps));
  expect(ulpBin(Number.NaN)).toBe(binCount - 1);
  expect([0, 1, 2, 3, 5, -9, 1e9].map((ulps) => binLabel(ulpBin(ulps)))).toEqual([
    "0",
    "+1",
    "+2",
    "+3 to +4",
    "+5 to +8",
    "−9 to −16",
    "beyond +2048",
  ]);
});
