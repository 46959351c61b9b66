import { describe, expect, it } from "vitest";
import { extentOf, ranges, regionOf } from "../../../src/diagnose/check/extent.js";
import { comparisonOf, namedValue } from "../hand-made.js";

describe("the wrong region of a unit", () => {
  const region = (isWrong: (row: number, column: number) => boolean, heads?: number) =>
    regionOf(comparisonOf(10, 32, isWrong), namedValue(32, heads ? { heads } : {}));

  it("is none where nothing stands out", () => {
    expect(region(() => false)).toBeUndefined();
  });

  it("is the whole unit, rows, columns or a tile", () => {
    expect(region(() => true)).toMatchObject({ whole: true, firstRow: 0 });
    expect(region((row) => row > 6)).toMatchObject({ whole: false, rows: "7 to 9", firstRow: 7 });
    expect(region((_, column) => column >= 24)).toMatchObject({ whole: false, columns: "24 to 31" });
    const tile = region((row, column) => row >= 5 && column < 8)!;
    expect(tile).toMatchObject({ rows: "5 to 9", columns: "0 to 7" });
    expect([tile.contains(5, 7), tile.contains(5, 8), tile.contains(4, 7)]).toEqual([true, false, false]);
  });

  it("is told by heads where those are wrong, and by channels where they are in every head", () => {
    expect(region((_, column) => column >= 8 && column < 16, 4)).toMatchObject({ heads: "1" });
    expect(region((_, column) => column % 8 >= 4, 4)).toMatchObject({ columns: "4 to 7 of every head" });
  });
});

it("an extent says the share of what was checked, not of what could not be", () => {
  const comparison = comparisonOf(10, 32, (row) => row === 0);
  comparison.noise.fill(Infinity, 5 * 32);
  expect(extentOf(comparison, namedValue(32))).toMatchObject({ rows: "0", share: 0.2 });
});

it("numbers as ranges", () => {
  expect(ranges([5, 0, 2, 1, 1])).toBe("0 to 2, 5");
  expect(ranges([])).toBe("");
});
