import { Evaluator, type Observations } from "../../spec/evaluator.js";
import type { Graph } from "../../spec/graph.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { byteWidth, decode, elementReader } from "../../tensor/dtype.js";
import type { HostStep } from "../program/step.js";
import { type Batch, lastRows, slotOf } from "../run/batch.js";
import { placeRows } from "../run/placed-rows.js";
import type { Backend } from "./backend.js";
import type { Tap } from "./compiled-step.js";
import type { KvStore } from "./kv-store.js";
import { columnsOf, dtypeOf, type Place } from "./places.js";

export interface HostStepMemory {
  readonly backend: Backend;
  readonly graph: Graph;
  readonly parameters: ParameterReader;
  readonly store: KvStore;
}

/** Computes a step of the spec in float64 on what lies on the device, and leaves the result there in float32. */
export async function runOnHost(
  step: HostStep,
  batch: Batch,
  reads: readonly Tap[],
  output: Place,
  memory: HostStepMemory,
): Promise<void> {
  const { backend, graph, parameters } = memory;
  const rows = placeRows(batch);
  const own = rows.rowsOf(0);
  const first = own[0] ?? 0;
  const last = lastRows(batch).map((row) => first + row);
  const read = new Map<string, ReadRow>();
  for (const tap of reads) {
    const { place } = tap;
    read.set(tap.name, place ? await denseRows(backend, place, first, last) : await cachedRows(tap, batch, memory));
  }
  const observations: Observations = {
    has: (name) => read.has(name),
    row(name, row) {
      const value = read.get(name)!(row, rows.seqId[row]!, rows.position[row]!);
      return value && { value, dtype: "float32", exact: true };
    },
  };
  const precision = { store: "float32", compute: "float64" } as const;
  const evaluator = new Evaluator({ graph, parameters, rows, precision, observations });
  const { value } = evaluator.evaluate(step.output, output.per === "sequence" ? last : own);
  writeRows(backend, output, Float32Array.from(value));
}

/** One row of a value, by its place in the table; undefined where the device does not hold it. */
type ReadRow = (row: number, sequence: number, position: number) => Float64Array | undefined;

/** @param first row of the table that is the batch's first; values of sequences lie at the `last` row of each. */
async function denseRows(backend: Backend, place: Place, first: number, last: Int32Array): Promise<ReadRow> {
  const columns = columnsOf(place);
  const { buffer, offset, rowStride, per } = place;
  const held = decode(new Uint8Array(await backend.read(buffer)), dtypeOf(place));
  return (row) => {
    const at = per === "row" ? row - first : last.indexOf(row);
    if (at < 0) return undefined;
    const start = offset + at * rowStride;
    return Float64Array.from(held.subarray(start, start + columns));
  };
}

async function cachedRows({ name, buffer }: Tap, batch: Batch, { backend, store }: HostStepMemory): Promise<ReadRow> {
  const { dtype, heads, headDim } = store.options;
  const [page, slot, head] = store.strides;
  const view = new DataView(await backend.read(buffer));
  const element = elementReader(dtype);
  const width = byteWidth(dtype);
  const sequences = new Map(batch.seqIds.map((seqId, b) => [seqId, b]));
  return (_, sequence, position) => {
    const b = sequences.get(sequence);
    if (b === undefined) throw new Error(`${name}: sequence ${sequence} is not in the batch`);
    const place = slotOf(batch, b, position);
    const start = Math.floor(place / batch.pageSize) * page + (place % batch.pageSize) * slot;
    return Float64Array.from({ length: heads * headDim }, (_, c) =>
      element(view, (start + Math.floor(c / headDim) * head + (c % headDim)) * width),
    );
  };
}

function writeRows(backend: Backend, place: Place, values: Float32Array<ArrayBuffer>): void {
  const columns = columnsOf(place);
  const { buffer, offset, rowStride } = place;
  if (rowStride === columns) {
    backend.write(buffer, offset * 4, values);
    return;
  }
  for (let row = 0; row * columns < values.length; row++) {
    backend.write(buffer, (offset + row * rowStride) * 4, values.subarray(row * columns, (row + 1) * columns));
  }
}
