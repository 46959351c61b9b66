import { elementMemoryIfMade, mostPlaced } from "./element-memory.js";

/** `count` rows of `length` numbers each, `stride` numbers apart, of which the first begins at `first`. */
export interface SpacedRows {
  readonly values: Float64Array;
  readonly first: number;
  readonly stride: number;
  readonly count: number;
  readonly length: number;
}

const ownSlot = 0;
const outSlot = 1;

/**
 * out[j] = Σ a[start + i]·row_j[i], in four sums of every fourth term each.
 * @returns false, having done nothing, where the rows do not lie where kernels work, or have other lengths than these do.
 */
export function dotsInPlace(a: Float64Array, start: number, rows: SpacedRows, out: Float64Array): boolean {
  const { values, first, stride, count, length } = rows;
  const memory = elementMemoryIfMade();
  if (!memory || length % 4 !== 0 || length === 0 || length > mostPlaced || !memory.holds(values)) return false;
  const own = memory.place(a, start, length, ownSlot);
  const sums = memory.slot(outSlot);
  for (let from = 0; from < count; from += mostPlaced) {
    const some = Math.min(mostPlaced, count - from);
    const row = values.byteOffset + (first + from * stride) * 8;
    memory.kernels.dots(own, length, row, stride * 8, some, memory.slotAddress(outSlot));
    for (let j = 0; j < some; j++) out[from + j] = sums[j]!;
  }
  return true;
}

/**
 * out[at + i] += Σ weight_j·row_j[i] of the rows whose weight is not 0, in their order.
 * @returns false, having done nothing, where rows or results do not lie where kernels work, or have other lengths than these do.
 */
export function addWeightedInPlace(weights: Float64Array, rows: SpacedRows, out: Float64Array, at: number): boolean {
  const { values, first, stride, count, length } = rows;
  const memory = elementMemoryIfMade();
  if (!memory || length % 8 !== 0 || length === 0 || !memory.holds(values) || !memory.holds(out)) return false;
  for (let from = 0; from < count; from += mostPlaced) {
    const some = Math.min(mostPlaced, count - from);
    const own = memory.place(weights, from, some, ownSlot);
    const row = values.byteOffset + (first + from * stride) * 8;
    memory.kernels.addWeighted(own, some, row, stride * 8, length, out.byteOffset + at * 8);
  }
  return true;
}
