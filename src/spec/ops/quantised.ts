import type { DType } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import {
  type Block,
  emptyBlock,
  type MutableBlock,
  type Op,
  type OpContext,
  raiseJump,
  usableVariance,
} from "../op.js";
import {
  type Extremes,
  otherScales,
  type Quantisation,
  quantiseRange,
  type Scale,
  scaleOf,
  widen,
} from "../quantisation.js";

/** Relative error of a scaled value: a division, or a product with a reciprocal. A tie within it may go either way. */
const scaledError = 2 ** -22;
/** So many standard deviations of its own a value may lie to the other side of a tie. */
const reach = 4;

/**
 * Input 0 after a pass through narrow numbers: an operand that was quantised on the fly, a cache in a type of its own.
 * Tiles lie in the matrix [rows of the step, columns].
 */
export function quantised(quantisation: Quantisation): Op {
  const { format, tile, scaling, scaleType } = quantisation;
  return {
    kind: "quantised",
    attributes: { format: format.id, tile: [tile.rows, tile.columns], scaling, scaleType },
    evaluate(context, rows, columns) {
      const width = context.width(0);
      const x = asStored(context.input(0, rows), quantisation.arithmetic);
      const changed = x.value.slice();
      const off = context.noise ? new Float64Array(changed.length) : undefined;
      const sides = off && [-1, 1].map((side) => x.value.map((v, i) => v + side * reachOf(x, i)));
      const scales = new Map<string, TileScale[]>();
      for (let r = 0; r < rows.length; r++) {
        const own = scalesOf(context, quantisation, x, r, rows[r]!, scales);
        for (let first = 0, t = 0; first < width; first += tile.columns, t++) {
          const from = r * width + first;
          const end = r * width + Math.min(width, first + tile.columns);
          for (const values of [changed, ...(sides ?? [])]) quantiseRange(values, from, end, quantisation, own[t]!);
          if (off) widenByOthers(off, x.value, changed, { from, end, quantisation, others: own[t]!.others });
        }
      }
      if (off)
        for (let i = 0; i < off.length; i++)
          off[i] = Math.max(off[i]!, ...sides!.map((v) => Math.abs(v[i]! - changed[i]!)));
      return select(context, x, changed, off, rows.length, columns, width);
    },
  };
}

/** A tile's scale, and those it may have got as well. */
interface TileScale extends Scale {
  readonly others: readonly Scale[];
}

/** How far the elements of a tile lie from what they are under another of its scales. */
function widenByOthers(
  off: Float64Array,
  values: Float64Array,
  changed: Float64Array,
  tile: { from: number; end: number; quantisation: Quantisation; others: readonly Scale[] },
): void {
  const { from, end, quantisation, others } = tile;
  for (const scale of others) {
    const other = values.slice(from, end);
    quantiseRange(other, 0, other.length, quantisation, scale);
    for (let i = from; i < end; i++) off[i] = Math.max(off[i]!, Math.abs(other[i - from]! - changed[i]!));
  }
}

/** How far a value may lie from where it is taken to be before it is rounded. */
function reachOf(x: Block, i: number): number {
  const own = usableVariance(x, i);
  return scaledError * Math.abs(x.value[i]!) + (own < Infinity ? reach * Math.sqrt(own) : 0);
}

/** What is quantised in a 16-bit type was stored in it before. */
function asStored(x: Block, dtype: DType | undefined): Block {
  if (!dtype) return x;
  const value = x.value.slice();
  roundAll(value, dtype);
  return { ...x, value };
}

function select(
  { noise }: OpContext,
  x: Block,
  changed: Float64Array,
  off: Float64Array | undefined,
  rowCount: number,
  columns: Int32Array,
  width: number,
): MutableBlock {
  const out = emptyBlock(rowCount * columns.length, noise);
  for (let r = 0, i = 0; r < rowCount; r++) {
    for (const column of columns) {
      const at = r * width + column;
      out.value[i] = changed[at]!;
      if (noise) {
        const flip = off![at]!;
        out.variance[i] = usableVariance(x, at) + flip * flip;
        raiseJump(out, i, Math.max(flip, x.jump?.[at] ?? 0));
      }
      i++;
    }
  }
  return out;
}

/** Scales of the tiles that row `row`, the `r`th of `x`, crosses. */
function scalesOf(
  context: OpContext,
  quantisation: Quantisation,
  x: Block,
  r: number,
  row: number,
  known: Map<string, TileScale[]>,
): TileScale[] {
  const { tile, scaling } = quantisation;
  const width = context.width(0);
  const { rows: table } = context;
  const stepIndex = table.stepOf[row]!;
  const step = table.steps[stepIndex];
  const band =
    tile.rows === 1 || !step ? `row ${row}` : `${stepIndex} ${Math.floor((row - step.firstRow) / tile.rows)}`;
  let scales = known.get(band);
  if (scales) return scales;
  const columns = Math.min(tile.columns, width);
  const extremes: Extremes[] = Array.from({ length: Math.ceil(width / columns) }, () => ({
    low: Infinity,
    high: -Infinity,
  }));
  const join = (values: Float64Array, at: number) =>
    extremes.forEach((found, t) => {
      widen(found, values, at + t * columns, at + Math.min(width, (t + 1) * columns));
    });
  if (scaling !== "none") {
    if (tile.rows === 1 || !step) join(x.value, r * width);
    else {
      const place = Math.floor((row - step.firstRow) / tile.rows);
      const first = tile.rows === Infinity ? 0 : place * tile.rows;
      const count = Math.min(tile.rows, step.rowCount - first);
      const others = Int32Array.from({ length: count }, (_, i) => step.firstRow + first + i);
      const all = asStored(context.input(0, others), quantisation.arithmetic).value;
      for (let i = 0; i < count; i++) join(all, i * width);
    }
  }
  scales = extremes.map((found) => ({
    ...scaleOf(found, quantisation),
    others: context.noise ? otherScales(found, quantisation, scaledError) : [],
  }));
  known.set(band, scales);
  return scales;
}
