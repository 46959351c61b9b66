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
      const { x, changed, off } = quantisedRows(context, rows, quantisation);
      return select(context, x, changed, off, rows.length, columns, context.width(0));
    },
  };
}

/** Rows of an operand in narrow numbers, and how far they may lie from that. */
export interface QuantisedRows {
  /** The operand itself, [rows, inputs]. */
  readonly x: Block;
  /** Its narrow numbers with their scales. */
  readonly changed: Float64Array;
  /** How far an element lies from the number on the other side of a tie within its reach; absent without noise. */
  readonly off: Float64Array | undefined;
  /** Relative standard deviation of the scales of each row, [rows, tiles]; absent without noise. */
  readonly drift: Float64Array | undefined;
}

/** All columns of input 0 in narrow numbers. */
export function quantisedRows(context: OpContext, rows: Int32Array, quantisation: Quantisation): QuantisedRows {
  const { tile, arithmetic } = quantisation;
  const width = context.width(0);
  const tiles = Math.ceil(width / Math.min(tile.columns, width));
  const x = asStored(context.input(0, rows), arithmetic);
  const changed = x.value.slice();
  const off = context.noise ? new Float64Array(changed.length) : undefined;
  const drift = context.noise ? new Float64Array(rows.length * tiles) : undefined;
  const scales = new Map<string, TileScale[]>();
  for (let r = 0; r < rows.length; r++) {
    const own = scalesOf(context, quantisation, x, r, rows[r]!, scales);
    for (let first = 0, t = 0; first < width; first += tile.columns, t++) {
      const from = r * width + first;
      const end = r * width + Math.min(width, first + tile.columns);
      const scale = own[t]!;
      quantiseRange(changed, from, end, quantisation, scale);
      if (!off) continue;
      drift![r * tiles + t] = scale.reach / reach;
      widenByTies(off, x, changed, { from, end, quantisation, scale });
      widenByOthers(off, x.value, changed, { from, end, quantisation, scale });
    }
  }
  return { x, changed, off, drift };
}

/** A tile's scale, and those it may have got as well. */
interface TileScale extends Scale {
  readonly others: readonly Scale[];
  /** How far it may lie from that, relative, because its largest value may. */
  readonly reach: number;
}

interface NoisyTile {
  readonly from: number;
  readonly end: number;
  readonly quantisation: Quantisation;
  readonly scale: TileScale;
}

/** How far the elements of a tile lie from what they are beyond the ties within their reach. */
function widenByTies(
  off: Float64Array,
  x: Block,
  changed: Float64Array,
  { from, end, quantisation, scale }: NoisyTile,
): void {
  for (const side of [-1, 1]) {
    const moved = new Float64Array(end - from);
    for (let i = from; i < end; i++)
      moved[i - from] = x.value[i]! + side * (reachOf(x, i) + scale.reach * Math.abs(x.value[i]!));
    quantiseRange(moved, 0, moved.length, quantisation, scale);
    for (let i = from; i < end; i++) off[i] = Math.max(off[i]!, Math.abs(moved[i - from]! - changed[i]!));
  }
}

/** How far the elements of a tile lie from what they are under another of its scales. */
function widenByOthers(
  off: Float64Array,
  values: Float64Array,
  changed: Float64Array,
  { from, end, quantisation, scale: { others } }: NoisyTile,
): void {
  for (const scale of others) {
    const other = values.slice(from, end);
    quantiseRange(other, 0, other.length, quantisation, scale);
    for (let i = from; i < end; i++) off[i] = Math.max(off[i]!, Math.abs(other[i - from]! - changed[i]!));
  }
}

/** How far a value may lie from where it is taken to be before it is rounded. */
function reachOf(x: Block, i: number): number {
  return scaledError * Math.abs(x.value[i]!) + ownReach(x, i);
}

/** The same by its own error alone. */
function ownReach(x: Block, i: number): number {
  const own = usableVariance(x, i);
  return own > 0 && own < Infinity ? reach * Math.sqrt(own) : 0;
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
  const reaches = new Float64Array(extremes.length);
  const noisy: { block: Block; at: number }[] = [];
  const join = (block: Block, at: number) => {
    extremes.forEach((found, t) => {
      widen(found, block.value, at + t * columns, at + Math.min(width, (t + 1) * columns));
    });
    if (context.noise) noisy.push({ block, at });
  };
  if (scaling !== "none") {
    if (tile.rows === 1 || !step) join(x, r * width);
    else {
      const place = Math.floor((row - step.firstRow) / tile.rows);
      const first = tile.rows === Infinity ? 0 : place * tile.rows;
      const count = Math.min(tile.rows, step.rowCount - first);
      const others = Int32Array.from({ length: count }, (_, i) => step.firstRow + first + i);
      const all = asStored(context.input(0, others), quantisation.arithmetic);
      for (let i = 0; i < count; i++) join(all, i * width);
    }
  }
  if (quantisation.fixed === undefined)
    for (const { block, at } of noisy)
      extremes.forEach((found, t) => {
        const end = at + Math.min(width, (t + 1) * columns);
        reaches[t] = Math.max(reaches[t]!, reachOfExtremes(found, quantisation, block, at + t * columns, end));
      });
  scales = extremes.map((found, t) => ({
    ...scaleOf(found, quantisation),
    reach: reaches[t]!,
    others: context.noise ? otherScales(found, quantisation, scaledError + reaches[t]!) : [],
  }));
  known.set(band, scales);
  return scales;
}

/**
 * How far the errors of elements `first` to `end - 1` may carry the scale of their tile, relative: an element that is not the
 * extreme counts by how far it may lie beyond it.
 */
function reachOfExtremes(
  { low, high }: Extremes,
  { scaling, aroundZero }: Quantisation,
  block: Block,
  first: number,
  end: number,
): number {
  const isRange = scaling === "range";
  const [least, most] = isRange && aroundZero ? [Math.min(0, low), Math.max(0, high)] : [low, high];
  const top = isRange ? most : Math.max(high, -low);
  const bottom = isRange ? least : -top;
  let up = 0;
  let down = 0;
  for (let i = first; i < end; i++) {
    const own = ownReach(block, i);
    if (own === 0) continue;
    const x = block.value[i]!;
    up = Math.max(up, Math.abs(x) === top || x === top ? own : x + own - top);
    down = Math.max(down, Math.abs(x) === top || x === bottom ? own : bottom - x + own);
  }
  if (!isRange) return top > 0 ? Math.max(up, down) / top : 0;
  return top > bottom ? (up + down) / (top - bottom) : 0;
}
