import type { GraphNode } from "../spec/graph.js";
import type { RowTable } from "../spec/rows.js";
import { InputError } from "../tensor/errors.js";
import { type AxisMap, beginningAt, dimsFor, mapAxes } from "./axes.js";
import type { Capture, DenseRecord } from "./capture.js";

/** A dense record with its axes resolved, and the global rows it covers. */
export interface PlacedDense {
  readonly record: DenseRecord;
  readonly axes: AxisMap;
  readonly stepIndex: number;
  /** Row of the record for a row of the step, or -1: values recorded for last tokens only have one row per sequence. */
  recordRow(row: number): number;
  /** Global rows in record order. */
  readonly rows: Int32Array;
}

/** A placed record, and how many of its sequences were recorded at a pad token alone. */
export interface DensePlacement {
  readonly placed: PlacedDense;
  readonly unjudged: number;
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
  const { firstRow, rowCount } = table.steps[stepIndex]!;
  const { padding } = capture;
  const sequences = step.seq_ids.length;
  const tokens = padding?.tokens ?? rowCount / sequences;
  const equal = padding !== undefined || step.qo_indptr.every((n, b) => n === b * tokens);
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
    const recordRow = (row: number) => (table.stepOf[row] === stepIndex ? placeOf(row) : -1);
    return { placed: { record, axes: perToken, stepIndex, recordRow, rows: table.rowsOf(stepIndex) }, unjudged: 0 };
  }
  const perSequence = axesOf(sequences, { sequences, tokens: 1 });
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
    `${capture.path}: "${record.name}" of step ${record.step} has shape [${view.shape.join(", ")}]; the model and ${need} rows of ${node.columns} columns${heads}: recorded with another model?`,
  );
}
