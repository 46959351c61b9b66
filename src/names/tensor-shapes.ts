import type { Capture } from "../capture/capture.js";
import { type PlacedDense, placeDense } from "../capture/placed-dense.js";
import type { Dump, DumpTensor } from "../importers/dump.js";
import { recordOf } from "../importers/named-capture.js";
import type { Placement } from "../importers/names-file.js";
import type { GraphNode } from "../spec/graph.js";
import type { RowTable } from "../spec/rows.js";
import { InputError } from "../tensor/errors.js";

const plainOrders = ["t c", "b t c"];
const headOrders = ["t h d", "h t d", "b t h d", "b h t d"];
/** Values that one tensor may hold along its first axis. */
const maxStacked = 4;
/** Parts of one tensor that are looked at. */
const maxParts = 64;

/** Which values of the spec a dump's tensors may be by their shapes alone. */
export class TensorShapes {
  readonly #ways = new Map<string, readonly Placement[]>();
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

  /**
   * Every way in which a tensor may hold a value: whole, a row per head, one of several stacked, or some of its columns.
   * Orders of axes that no recorder writes are looked at where nothing else fits.
   */
  waysOf(tensor: DumpTensor, node: GraphNode): Placement[] {
    // What a shape may be depends on the value's sizes alone.
    const key = JSON.stringify([tensor.name, tensor.step, node.columns, node.heads]);
    let known = this.#ways.get(key);
    if (!known) {
      known = this.#findWays(tensor, node);
      this.#ways.set(key, known);
    }
    return known.map((way) => ({ ...way, value: node.name }));
  }

  #findWays(tensor: DumpTensor, node: GraphNode): Placement[] {
    const whole = { tensor: tensor.name, value: node.name };
    const [rows = 0, width = 0] = tensor.shape;
    const fits = (way: Placement) => this.place(tensor, way, node) !== undefined;
    const inOrders = (orders: readonly string[]) =>
      orders
        .map((dims) => ({ ...whole, dims }))
        .filter((way) => hasLetters(way.dims, tensor) && this.#fitsAs(tensor, way, node));
    if (inOrders(plainOrders).length > 0) return [whole];
    const ofHeads = inOrders(headOrders);
    if (ofHeads.length > 0) return ofHeads;
    const perHead = { ...whole, heads: node.heads ?? 1 };
    const isPerHead = node.heads !== undefined && tensor.shape.length === 2 && width === node.columns / node.heads;
    if (isPerHead && rows % node.heads! === 0 && fits(perHead)) return [perHead];
    if (fits(whole)) return [whole];
    const stacked = tensor.shape.length >= 3 && rows <= maxStacked ? rows : 0;
    const ways: Placement[] = Array.from({ length: stacked }, (_, index) => ({ ...whole, index }));
    for (const columns of slicesOf(tensor, node)) ways.push({ ...whole, columns });
    return ways.filter(fits);
  }

  #fitsAs(tensor: DumpTensor, way: Placement & { dims: string }, node: GraphNode): boolean {
    return this.place(tensor, way, node)?.axes.order === way.dims;
  }
}

function hasLetters(dims: string, { shape }: DumpTensor): boolean {
  return dims.split(" ").length === shape.length;
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
