import type { Graph, GraphNode } from "../../spec/graph.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { DType } from "../../tensor/dtype.js";
import { executionOrder, readersOf } from "../program/dataflow.js";
import type { Backend, DeviceBuffer } from "./backend.js";
import type { Slot } from "./packing.js";
import type { Weights } from "./weights.js";

/** Where a value of the spec lies in device memory: rows of one element type, strides and offset in elements. */
export interface Place {
  readonly buffer: DeviceBuffer;
  /** @default "float32" */
  readonly dtype?: DType;
  /** Axes after the row axis: [channels] or [heads, head_dim]. */
  readonly shape: readonly number[];
  readonly rowStride: number;
  readonly offset: number;
  /** Whether the value has a row per token or one per sequence. */
  readonly per: "row" | "sequence";
}

/** Channels of a row of a value. */
export function columnsOf({ shape }: Place): number {
  return shape.reduce((product, n) => product * n, 1);
}

/** Element type that a value is stored in. */
export function dtypeOf({ dtype = "float32" }: Place): DType {
  return dtype;
}

/**
 * Memory of a value whose rows follow one another.
 * @throws Error when they do not, or are of another type: the kernel of the step `label` could not address them.
 */
export function dense(place: Place, label: string, dtype: DType = "float32"): DeviceBuffer {
  if (dtypeOf(place) !== dtype) throw new Error(`${label}: the kernel takes rows of ${dtype}, not ${dtypeOf(place)}`);
  if (place.offset !== 0 || place.rowStride !== columnsOf(place)) {
    throw new Error(`${label}: the kernel takes rows that follow one another`);
  }
  return place.buffer;
}

/** Where steps find and leave the values of one program. */
export class Places {
  readonly #moved = new Map<string, Place>();

  constructor(readonly usual: ReadonlyMap<string, Place>) {}

  /** Those of the whole program, where these are one step's view of them. */
  get program(): Places {
    return this;
  }

  /** @throws Error when `name` lies nowhere. */
  of(name: string): Place {
    const place = this.#moved.get(name) ?? this.usual.get(name);
    if (!place) throw new Error(`"${name}" has no place`);
    return place;
  }

  /** From here on, `name` lies elsewhere in this program. */
  move(name: string, place: Place): void {
    this.#moved.set(name, place);
  }
}

interface Storage {
  readonly label: string;
  readonly per: "row" | "sequence";
  columns: number;
}

interface Entry {
  readonly node: GraphNode;
  readonly storage: Storage;
  readonly offset: number;
  readonly rowStride: number;
}

/** Ops whose values have no memory of their own: second names, caches, and the sampled token. */
const without = new Set(["identity", "select", "append", "argmax"]);

/**
 * Memory for every value of the spec, once for all layers: values at the same place of two layers share theirs, since a
 * layer is done when the next one begins. Products whose weights share a slot lie side by side, as their kernel leaves them.
 */
export function placeValues(
  backend: Backend,
  graph: Graph,
  weights: Weights,
  limits: { readonly maxRows: number; readonly maxSequences: number },
): { places: ReadonlyMap<string, Place>; buffers: readonly DeviceBuffer[] } {
  const entries = arrange(graph, weights);
  const buffers = new Map<Storage, DeviceBuffer>();
  const places = new Map<string, Place>();
  for (const { node, storage, offset, rowStride } of entries) {
    const rows = storage.per === "row" ? limits.maxRows : limits.maxSequences;
    const buffer = buffers.get(storage) ?? backend.buffer(storage.label, rows * storage.columns * 4);
    buffers.set(storage, buffer);
    places.set(node.name, { buffer, shape: shapeOf(node), rowStride, offset, per: storage.per });
  }
  return { places, buffers: [...buffers.values()] };
}

function arrange(graph: Graph, weights: Weights): Entry[] {
  const storages = new Map<string, Storage>();
  const slots = new Map<Slot, string>();
  const selected = new Set<string>();
  const counts = new Map<number | undefined, number>();
  const entries: Entry[] = [];
  for (const node of executionOrder(graph)) {
    if (node.op.kind === "select" || node.inputs.some((input) => selected.has(input))) selected.add(node.name);
    if (without.has(node.op.kind)) continue;
    const index = counts.get(node.layer) ?? 0;
    counts.set(node.layer, index + 1);
    let key = storageKey(graph, node, index);
    let columns = node.columns;
    let offset = 0;
    if (node.op.kind === "linear") {
      const { slot, firstRow, matrix } = weights.matrix((node.op.attributes as unknown as LinearAttributes).weight);
      key = slots.get(slot) ?? key;
      slots.set(slot, key);
      columns = matrix.rows;
      offset = firstRow;
    }
    const per = selected.has(node.name) ? "sequence" : "row";
    const storage = storages.get(key) ?? { label: `${node.op.kind} ${storages.size}`, per, columns };
    storage.columns = Math.max(storage.columns, columns);
    storages.set(key, storage);
    entries.push({ node, storage, offset, rowStride: columns });
  }
  return entries;
}

/** What a value shares its memory with; `index` counts the values of its layer. */
function storageKey(graph: Graph, { name, layer }: GraphNode, index: number): string {
  if (layer === undefined) return `model ${index}`;
  const readers = readersOf(graph, name).map((reader) => graph.node(reader).layer);
  // What a rewrite reads of a layer that is over has memory of its own.
  if (readers.some((reader) => reader !== undefined && (reader > layer + 1 || reader < layer))) return name;
  // The stream from layer to layer must outlast both, however many values each of them has.
  if (readers.some((reader) => reader !== layer)) return graph.streamAfter(layer)?.name === name ? "stream" : name;
  return `layer ${index}`;
}

/** Norms and rotations address heads; products and attention leave rows of channels. */
function shapeOf({ op, heads, columns }: GraphNode): readonly number[] {
  const byHead = heads !== undefined && (op.kind === "rmsnorm" || op.kind === "rope");
  return byHead ? [heads, columns / heads] : [columns];
}
