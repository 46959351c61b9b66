import { describe, expect, it } from "vitest";
import { AlignedRows } from "../../../src/diagnose/reference/aligned-rows.js";
import { RowTable } from "../../../src/spec/rows.js";

/** A table of steps, each of [sequence, tokens, tokens from before the recording]. */
function table(...steps: readonly (readonly [number, readonly number[], number?])[][]): RowTable {
  const rows = new RowTable();
  steps.forEach((parts, step) => {
    const qoIndptr = [0];
    for (const [, tokens] of parts) qoIndptr.push(qoIndptr.at(-1)! + tokens.length);
    rows.append({
      step,
      seqIds: parts.map(([sequence]) => sequence),
      tokenIds: parts.flatMap(([, tokens]) => tokens),
      qoIndptr,
      unrecorded: parts.map(([, , before]) => before ?? 0),
    });
  });
  return rows;
}

/** Target token rows with the reference's, as "row:rows". */
function pairs(target: RowTable, reference: RowTable): string[] {
  const rows = new AlignedRows(target, reference);
  return [...Array(target.count).keys()].flatMap((row) => {
    const others = rows.of(row);
    return others.length > 0 ? [`${row}:${others.join(",")}`] : [];
  });
}

describe("rows of two runs", () => {
  it("are aligned by the tokens before them, whatever their steps and sequences", () => {
    const decode = table([[3, [5, 6]]], [[3, [7]]], [[3, [8]]]);
    const batch = table([
      [0, [9, 9]],
      [1, [5, 6, 7, 8]],
    ]);
    expect(pairs(decode, batch)).toEqual(["0:2", "1:3", "2:4", "3:5"]);
  });

  it("are not aligned by equal tokens after others", () => {
    expect(pairs(table([[0, [1, 7, 7]]]), table([[0, [2, 7, 7]]]))).toEqual([]);
    expect(pairs(table([[0, [1, 2, 7]]]), table([[0, [1, 7, 2]]]))).toEqual(["0:0"]);
  });

  it("have several counterparts where a prompt was run several times", () => {
    const twice = table([
      [0, [1, 2]],
      [1, [1, 2]],
    ]);
    expect(pairs(table([[0, [1, 2, 3]]]), twice)).toEqual(["0:0,2", "1:1,3"]);
  });

  it("of a sequence that was begun again are aligned with both times", () => {
    const again = table([[0, [1, 2]]]);
    again.restart(0);
    again.append({ step: 1, seqIds: [0], tokenIds: [1, 2, 3], qoIndptr: [0, 3] });
    expect(pairs(table([[0, [1, 2, 3]]]), again)).toEqual(["0:0,2", "1:1,3", "2:4"]);
  });

  it("from inside a sequence are aligned at their positions, and nothing else is", () => {
    const late = table([[0, [7, 8], 2]]);
    const whole = table([
      [0, [5, 6, 7, 8]],
      [1, [7, 8, 7, 9]],
    ]);
    // Rows 0 and 1 stand for the unrecorded tokens; 7 at position 2 may be either's.
    expect(pairs(late, whole)).toEqual(["2:2,6", "3:3"]);
    expect(new AlignedRows(late, whole).fromInside).toBe(true);
    expect(pairs(whole, late)).toEqual(["2:2", "3:3", "6:2"]);
    // Two whole texts that only end alike are two texts.
    expect(
      pairs(
        table([[0, [1, 6, 7, 8]]]),
        table([
          [0, [5, 6, 7, 8]],
          [1, [7], 2],
        ]),
      ),
    ).toEqual(["2:6"]);
  });

  it("say where a text goes on differently", () => {
    const { forks } = new AlignedRows(table([[4, [1, 2, 3, 5]]]), table([[0, [1, 2, 4, 5]]]));
    expect(forks).toEqual([{ sequence: 4, position: 2, target: 3, reference: 4 }]);
    expect(new AlignedRows(table([[0, [1, 2, 3]]]), table([[0, [1, 2]]])).forks).toEqual([]);
  });
});
