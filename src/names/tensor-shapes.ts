import { mapAxes } from "../capture/axes.js";
import type { Capture } from "../capture/capture.js";
import { type PlacedDense, placeDense } from "../capture/placed-dense.js";
import type { Dump, DumpTensor } from "../importers/dump.js";
import { recordOf } from "../importers/named-capture.js";
import type { Placement } from "../importers/names-file.js";
import type { GraphNode } from "../spec/graph.js";
import type { RowTable } from "../spec/rows.js";
import { InputError } from "../tensor/errors.js";

const headOrders = ["t h d", "h t d", "b t h d", "b h t d"];
/** Parts of one tensor that are looked at. */
const maxParts = 64;

/** Which values of the spec a dump's tensors may be by their shapes alone. */
export class TensorShapes {
  readonly #stepIndex: ReadonlyMap<number, number>;

  constructor(
    readonly dump: Dump,
    /** The dump's steps, with no value placed. */
    readonly capture: Capture,
    readonly table: RowTable,
  ) {
    this.#stepIndex = new Map(capture.steps.map(({ step }, index) => [step, index]));
  }

  /** Where a placement's rows lie; undefined when its shape does not fit the value. */
  place(tensor: DumpTensor, placement: Placement, node: GraphNode): PlacedDense | undefined {
    const stepIndex = this.#stepIndex.get(tensor.step);
    if (stepIndex === undefined) return undefined;
    try {
      const record = recordOf(tensor, placement, 0, this.dump.path);
      const dims = placement.dims ? { [placement.value]: placement.dims } : {};
      const capture = { ...this.capture, manifest: { ...this.capture.manifest, dims } };
      return placeDense(record, stepIndex, node, this.table, capture).placed;
    } catch (error) {
      if (error instanceof InputError) return undefined;
      throw error;
    }
  }

  /** Every way in which a tensor may hold a value: whole, a row per head, one of several stacked, or some of its columns. */
  waysOf(tensor: DumpTensor, node: GraphNode): Placement[] {
    const whole = { tensor: tensor.name, value: node.name };
    const [rows = 0, width = 0] = tensor.shape;
    const ways: Placement[] = this.#orders(tensor, whole, node);
    if (ways.length > 0) return ways;
    if (node.heads && tensor.shape.length === 2 && width === node.columns / node.heads && rows % node.heads === 0)
      ways.push({ ...whole, heads: node.heads });
    if (tensor.shape.length >= 3 && rows <= 4)
      for (let index = 0; index < rows; index++) ways.push({ ...whole, index });
    for (const columns of slicesOf(tensor, node)) ways.push({ ...whole, columns });
    return ways.filter((way) => this.place(tensor, way, node));
  }

  /** A whole tensor, once for each order of its axes that fits. */
  #orders(tensor: DumpTensor, whole: Placement, node: GraphNode): Placement[] {
    if (!this.place(tensor, whole, node)) return [];
    const step = this.capture.steps[this.#stepIndex.get(tensor.step)!]!;
    const sequences = step.seq_ids.length;
    const tokens = this.capture.padding?.tokens ?? step.token_ids.length / sequences;
    const sizes = { columns: node.columns, heads: node.heads, rows: sequences * tokens, batch: { sequences, tokens } };
    const fitting = headOrders.filter((order) => mapAxes(tensor.shape, tensor.strides, sizes, order));
    return fitting.length > 1 ? fitting.map((dims) => ({ ...whole, dims })) : [whole];
  }
}

/** Columns that may hold a value, where a tensor has more of them: at multiples of what both widths share. */
function slicesOf(tensor: DumpTensor, { columns }: GraphNode): [number, number][] {
  const width = tensor.shape.at(-1) ?? 0;
  const share = greatestCommonDivisor(width, columns);
  const parts = share > 0 ? (width - columns) / share + 1 : 0;
  if (!(width > columns && parts <= maxParts)) return [];
  return Array.from({ length: parts }, (_, i) => [i * share, columns]);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
