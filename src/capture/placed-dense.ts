import type { GraphNode } from "../spec/graph.js";
import { stretchOf } from "../spec/ranks.js";
import type { RowTable } from "../spec/rows.js";
import { InputError } from "../tensor/errors.js";
import { type AxisMap, beginningAt, dimsFor, mapAxes } from "./axes.js";
import type { Capture, DenseRecord } from "./capture.js";
import type { Shard } from "./format.js";

/** A dense record with its axes resolved, and the global rows it covers. */
export interface PlacedDense {
  readonly record: DenseRecord;
  readonly axes: AxisMap;
  readonly stepIndex: number;
  /** Row of the record for a row of the step, or -1: values recorded for last tokens only have one row per sequence. */
  recordRow(row: number): number;
  /** Global rows in record order. */
  readonly rows: Int32Array;
  /** The shards that make up the value, where several ranks hold a part each; `record` is the first one's. */
  readonly parts?: readonly PlacedPart[] | undefined;
}

/** One rank's part of a value: its columns from `first` on, of the rows it covers. */
export interface PlacedPart {
  readonly placed: PlacedDense;
  readonly first: number;
}

/** A placed record, and how many of its sequences were recorded at a pad token alone. */
export interface DensePlacement {
  readonly placed: PlacedDense;
  readonly unjudged: number;
}

/**
 * A value put together from the shards of several ranks, in order of their parts.
 * @throws InputError when a shape does not fit its part of the model's value.
 */
export function placeShards(
  records: readonly DenseRecord[],
  stepIndex: number,
  node: GraphNode,
  table: RowTable,
  capture: Capture,
): PlacedDense {
  const parts = records.map((record) => {
    const { placed } = placeDense(record, stepIndex, partOf(node, record.shard!), table, capture);
    return { placed, first: firstColumnOf(node, record.shard!) };
  });
  const [{ placed: first }] = parts as [PlacedPart];
  const rows = Int32Array.from(new Set(parts.flatMap(({ placed }) => [...placed.rows]))).sort();
  const { firstRow } = table.steps[stepIndex]!;
  const recordRow = (row: number) => (parts.some(({ placed }) => placed.recordRow(row) >= 0) ? row - firstRow : -1);
  // A view of its own: rows are remembered by it.
  const record = { ...first.record, view: { ...first.record.view } };
  return { ...first, record, recordRow, rows, parts };
}

/** A value as one rank holds it. */
export function partOf(node: GraphNode, { axis, part, of }: Shard): GraphNode {
  const { heads, columns } = node;
  if (axis === "t") return node;
  const width = heads ? columns / heads : undefined;
  if (axis === "h" && heads && width) {
    const { count } = stretchOf(heads, part, of);
    return { ...node, heads: count, columns: count * width };
  }
  const { count } = stretchOf(columns, part, of);
  const { heads: _, ...headless } = node;
  return width && count % width === 0
    ? { ...node, heads: count / width, columns: count }
    : { ...headless, columns: count };
}

/** The first column of a part. */
export function firstColumnOf({ heads, columns }: GraphNode, { axis, part, of }: Shard): number {
  if (axis === "t") return 0;
  if (axis === "h" && heads) return stretchOf(heads, part, of).first * (columns / heads);
  return stretchOf(columns, part, of).first;
}

/**
 * Finds the rows of the spec in a recorded shape: a row per token, pads included where the batch is padded, or a row per
 * sequence.
 * @throws InputError when the shape fits neither.
 */
export function placeDense(
  record: DenseRecord,
  stepIndex: number,
  node: GraphNode,
  table: RowTable,
  capture: Capture,
): DensePlacement {
  const step = capture.steps[stepIndex]!;
  const whole = table.steps[stepIndex]!;
  const ofTokens = record.shard?.axis === "t" ? record.shard : undefined;
  const stretch = ofTokens
    ? stretchOf(whole.rowCount, ofTokens.part, ofTokens.of)
    : { first: 0, count: whole.rowCount };
  const firstRow = whole.firstRow + stretch.first;
  const rowCount = stretch.count;
  const padding = capture.paddings?.get(step.step);
  const sequences = step.seq_ids.length;
  const tokens = padding?.tokens ?? rowCount / sequences;
  const equal = !ofTokens && (padding !== undefined || step.qo_indptr.every((n, b) => n === b * tokens));
  const { view } = record;
  const axesOf = (rows: number, batch: { sequences: number; tokens: number } | undefined) => {
    const sizes = { columns: node.columns, heads: node.heads, rows, batch };
    const dims = dimsFor(capture.manifest.dims, record.name);
    const axes = mapAxes(view.shape, view.strides, sizes, dims) ?? mapAxes(view.shape, view.strides, sizes);
    return axes && beginningAt(axes, record.first ?? 0);
  };
  const places = padding ? sequences * tokens : rowCount;
  const perToken = axesOf(places, equal ? { sequences, tokens } : undefined);
  if (perToken) {
    const placeOf = (row: number) => (padding ? padding.places[row - firstRow]! : row - firstRow);
    const covers = (row: number) => table.stepOf[row] === stepIndex && row >= firstRow && row < firstRow + rowCount;
    const recordRow = (row: number) => (covers(row) ? placeOf(row) : -1);
    const rows = table.rowsOf(stepIndex).subarray(stretch.first, stretch.first + rowCount);
    return { placed: { record, axes: perToken, stepIndex, recordRow, rows }, unjudged: 0 };
  }
  const perSequence = ofTokens ? undefined : axesOf(sequences, { sequences, tokens: 1 });
  if (perSequence) {
    // Who takes the last column of a batch padded on the right takes a pad token where a sequence ends before it.
    const inLastColumn = (row: number) => !padding || (padding.places[row - firstRow]! + 1) % padding.tokens === 0;
    const covers = (row: number) => table.stepOf[row] === stepIndex && table.isLast(row) && inLastColumn(row);
    const rows = table.rowsOf(stepIndex).filter(covers);
    const recordRow = (row: number) => (covers(row) ? table.sequenceOf[row]! : -1);
    const unjudged = padding ? sequences - rows.length : 0;
    return { placed: { record, axes: perSequence, stepIndex, recordRow, rows }, unjudged };
  }
  const heads = node.heads ? ` (${node.heads} heads of ${node.columns / node.heads})` : "";
  const need = padding
    ? `a batch padded to ${sequences} × ${tokens} tokens needs ${places}`
    : `the step's ${rowCount} tokens need ${rowCount}`;
  throw new InputError(
    `${capture.path}: "${record.name}" of step ${record.step} has shape [${view.shape.join(", ")}]${record.shard ? ` for part ${record.shard.part} of ${record.shard.of}` : ""}; the model and ${need} rows of ${node.columns} columns${heads}: recorded with another model?`,
  );
}
