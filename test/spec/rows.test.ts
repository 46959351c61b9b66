import { describe, expect, it } from "vitest";
import { RowTable, unknownToken } from "../../src/spec/rows.js";

describe("the row table", () => {
  const table = new RowTable();
  table.append({ step: 0, seqIds: [7, 9], tokenIds: [1, 2, 3, 4, 5], qoIndptr: [0, 3, 5] });
  table.append({ step: 4, seqIds: [9, 7], tokenIds: [6, 7, 8], qoIndptr: [0, 2, 3] });

  it("derives positions from token counts alone", () => {
    expect(table.position).toEqual([0, 1, 2, 0, 1, 2, 3, 3]);
    expect(table.seqId).toEqual([7, 7, 7, 9, 9, 9, 9, 7]);
    expect(table.stepOf).toEqual([0, 0, 0, 0, 0, 1, 1, 1]);
    expect([table.lengthOf(7), table.lengthOf(9), table.lengthOf(1)]).toEqual([4, 4, 0]);
  });

  it("knows which rows hold a sequence's keys, at the time of each step", () => {
    expect([0, 1, 2, 3].map((position) => table.keyRow(6, position))).toEqual([3, 4, 5, 6]);
    expect(table.keyCount(0)).toBe(3);
    expect(table.keyCount(7)).toBe(4);
    expect(table.keyRow(7, 3)).toBe(7);
  });

  it("knows the last row of each sequence of a step, and a step's rows", () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7].filter((row) => table.isLast(row))).toEqual([2, 4, 6, 7]);
    expect([...table.rowsOf(1)]).toEqual([5, 6, 7]);
  });

  it("starts again after preemption, and gives rows to tokens nobody recorded", () => {
    const other = new RowTable();
    other.append({ step: 0, seqIds: [1], tokenIds: [5, 6], qoIndptr: [0, 2] });
    other.restart(1);
    other.append({ step: 1, seqIds: [1, 2], tokenIds: [5, 6, 9], qoIndptr: [0, 2, 3], unrecorded: [0, 3] });
    expect(other.seqId.slice(2)).toEqual([2, 2, 2, 1, 1, 2]);
    expect(other.token.slice(2, 5)).toEqual([unknownToken, unknownToken, unknownToken]);
    expect(other.position).toEqual([0, 1, 0, 1, 2, 0, 1, 3]);
    expect(other.stepOf.slice(2, 5)).toEqual([-1, -1, -1]);
    expect(other.keyRow(7, 1)).toBe(3);
  });

  it("has rotary positions of either convention where rows are padded on the left", () => {
    const padded = new RowTable();
    const step = { step: 0, seqIds: [1, 2], tokenIds: [5, 6, 7, 8, 9], qoIndptr: [0, 2, 5] };
    padded.append({ ...step, columns: [1, 2, 0, 1, 2] });
    expect(padded.rotaryChoices).toEqual(["counts", "columns"]);
    const rotary = () => [0, 1, 2, 3, 4].map((row) => padded.rotaryPosition(row));
    expect(rotary()).toEqual([0, 1, 0, 1, 2]);
    padded.rotary = "columns";
    expect(rotary()).toEqual([1, 2, 0, 1, 2]);
    expect(padded.position).toEqual([0, 1, 0, 1, 2]);
    const right = new RowTable();
    right.append({ ...step, columns: [0, 1, 0, 1, 2] });
    expect(right.rotaryChoices).toEqual(["counts"]);
  });
});
