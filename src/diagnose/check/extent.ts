import type { GraphNode } from "../../spec/graph.js";
import type { Comparison } from "../bits/statistics.js";

/** Which rows, heads and columns of a unit are wrong, in words; absent means all. */
export interface Extent {
  readonly rows?: string;
  readonly heads?: string;
  readonly columns?: string;
  /** Share of checked elements that stand beyond rounding. */
  readonly share: number;
  /** What stands there instead, when it is one thing. */
  readonly holds?: string;
}

/** The wrong part of a unit as a product of rows and columns. */
export interface Region {
  /** The whole unit is wrong. */
  readonly whole: boolean;
  readonly rows?: string;
  readonly heads?: string;
  readonly columns?: string;
  readonly firstRow: number;
  contains(row: number, column: number): boolean;
}

/** |z| from which an element counts as wrong. */
const wrongFrom = 8;

interface Marginals {
  readonly byRow: Float64Array;
  readonly byColumn: Float64Array;
  readonly wrong: number;
  readonly checked: number;
}

function marginals({ z, noise, rows, columns }: Comparison): Marginals {
  const byRow = new Float64Array(rows.length);
  const byColumn = new Float64Array(columns.length);
  let wrong = 0;
  let checked = 0;
  for (let i = 0; i < z.length; i++) {
    if (noise[i] === Infinity) continue;
    checked++;
    if (!(Math.abs(z[i]!) > wrongFrom)) continue;
    wrong++;
    byRow[Math.floor(i / columns.length)]!++;
    byColumn[i % columns.length]!++;
  }
  return { byRow, byColumn, wrong, checked };
}

/**
 * The wrong region of a comparison, or undefined when nothing stands out. Ranges are closed up to their neighbours in
 * the sample, and open-ended when they reach its last row or column.
 */
export function regionOf(comparison: Comparison, node: GraphNode): Region | undefined {
  const { rows, columns } = comparison;
  const { byRow, byColumn, wrong } = marginals(comparison);
  if (wrong === 0) return undefined;
  const wrongRows = [...rows.keys()].filter((r) => byRow[r]! > 0);
  const wrongColumns = [...columns.keys()].filter((c) => byColumn[c]! > 0);
  const allRows = wrongRows.length >= 0.9 * rows.length;
  const headWidth = node.heads ? node.columns / node.heads : undefined;
  const wrongHeads = headWidth ? [...new Set(wrongColumns.map((c) => Math.floor(columns[c]! / headWidth)))] : [];
  const allHeads = headWidth !== undefined && wrongHeads.length === node.heads;
  const allColumns = wrongColumns.length >= 0.9 * columns.length;
  const rowSet = new Set(wrongRows.map((r) => rows[r]!));
  const byHead =
    headWidth !== undefined &&
    !allHeads &&
    wrongColumns.length >= 0.6 * wrongHeads.length * headWidth * (columns.length / node.columns);
  const headSet = new Set(wrongHeads);
  const columnRange = rangeOf(wrongColumns, columns);
  const channels = allHeads ? channelsOfEveryHead(wrongColumns, columns, headWidth) : undefined;
  const firstRow = rows[wrongRows[0]!]!;
  return {
    whole: allRows && allColumns,
    firstRow,
    ...(!allRows && { rows: ranges([...rowSet]) }),
    ...(byHead && { heads: ranges(wrongHeads) }),
    ...(!allColumns && {
      columns: byHead
        ? ranges(wrongHeads.flatMap((h) => [h * headWidth!, (h + 1) * headWidth! - 1]))
        : channels
          ? `${channels.first} to ${channels.last} of every head`
          : `${columnRange.first} to ${columnRange.last}`,
    }),
    contains: (row, column) => {
      if (!allRows && !rowSet.has(row)) return false;
      if (allColumns) return true;
      if (byHead) return headSet.has(Math.floor(column / headWidth!));
      const at = channels ? column % headWidth! : column;
      const { first, last } = channels ?? columnRange;
      return at >= first && at <= last;
    },
  };
}

function rangeOf(members: readonly number[], columns: Int32Array): { first: number; last: number } {
  return { first: columns[members[0]!]!, last: columns[members.at(-1)!]! };
}

/** The same channels of each head, when those are what is wrong and most of them are; undefined otherwise. */
function channelsOfEveryHead(
  wrong: readonly number[],
  columns: Int32Array,
  width: number,
): { first: number; last: number } | undefined {
  const channels = wrong.map((c) => columns[c]! % width);
  const first = Math.min(...channels);
  const last = Math.max(...channels);
  const inside = columns.filter((column) => column % width >= first && column % width <= last).length;
  return inside < columns.length && wrong.length >= 0.6 * inside ? { first, last } : undefined;
}

/** 0 1 2 5 as "0 to 2, 5". */
export function ranges(numbers: readonly number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j]! + 1) j++;
    parts.push(
      i === j ? String(sorted[i]) : j === i + 1 ? `${sorted[i]}, ${sorted[j]}` : `${sorted[i]} to ${sorted[j]}`,
    );
    i = j + 1;
  }
  return parts.length > 12 ? `${parts.slice(0, 12).join(", ")}, …` : parts.join(", ");
}

/** The extent of a failing unit, for people. */
export function extentOf(comparison: Comparison, node: GraphNode): Extent {
  const { wrong, checked } = marginals(comparison);
  const share = checked ? wrong / checked : 0;
  const region = regionOf(comparison, node);
  if (!region) return { share };
  const holds = holdsOf(comparison, region);
  return {
    ...(region.rows && { rows: region.rows }),
    ...(region.heads && { heads: region.heads }),
    ...(region.columns && !region.heads && { columns: region.columns }),
    share: Number(share.toFixed(4)),
    ...(holds && { holds }),
  };
}

function holdsOf({ rows, columns, observed }: Comparison, region: Region): string | undefined {
  let zeros = 0;
  let notANumber = 0;
  let infinite = 0;
  let count = 0;
  rows.forEach((row, r) => {
    columns.forEach((column, c) => {
      if (!region.contains(row, column)) return;
      const x = observed[r * columns.length + c]!;
      count++;
      if (x === 0) zeros++;
      else if (Number.isNaN(x)) notANumber++;
      else if (!Number.isFinite(x)) infinite++;
    });
  });
  if (zeros === count) return "zeros";
  if (notANumber === count) return "NaN";
  if (infinite === count) return "infinities";
  return notANumber + infinite > 0 ? `${notANumber} NaN and ${infinite} infinities among ${count}` : undefined;
}
