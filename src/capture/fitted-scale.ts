import { type DType, floatFormat } from "../tensor/dtype.js";
import { magnitudesOf, mayStore, recordSpread } from "../tensor/scaled-type.js";

/** One row of a cache: what was to be stored, the type it was recorded in, and the numbers the cache keeps for it. */
export interface StoredRow {
  readonly value: Float64Array;
  readonly recorded: DType | undefined;
  readonly stored: Float64Array;
}

export interface FittedScale {
  readonly scale: number;
  /** How far it may be off, relative; 0 for a number somebody would choose, where that is no chance. */
  readonly error: number;
}

interface Range {
  readonly low: number;
  readonly high: number;
}

/** Relative slack for a quotient that was computed in float32. */
const slack = 2 ** -22;

/**
 * The scale under which the rows' values are kept as their stored numbers. It is fitted on every other row and must give
 * the rest bit for bit, or most of it: rows that hold something else do not hide it.
 * @returns undefined when no scale does, or too little was recorded to tell.
 */
export function fitScale(rows: readonly StoredRow[], dtype: DType): FittedScale | undefined {
  const telling = rows.filter(({ stored }) => stored.some((x) => x !== 0 && Number.isFinite(x)));
  const fitted = telling.filter((_, i) => i % 2 === 0);
  const judging = telling.filter((_, i) => i % 2 === 1);
  if (judging.length === 0) return undefined;
  // What was stored may have been rounded from the record itself, or from what the record was rounded from.
  for (const spread of [0, 1]) {
    const range = commonRange(fitted.map((row) => scaleRange(row, dtype, spread)));
    if (!range) continue;
    const found = chosen(range, fitted, dtype);
    const right = judging.filter((row) => keeps(row, dtype, found, spread));
    if (right.length === 0 || right.length * 2 < judging.length) continue;
    // The rows that judged it narrow it further.
    return chosen(commonRange(telling.map((row) => scaleRange(row, dtype, spread)))!, rows, dtype);
  }
  return undefined;
}

/** Whether the row's numbers are its values under the scale. */
function keeps(row: StoredRow, dtype: DType, { scale, error }: FittedScale, spread: number): boolean {
  return row.stored.every((x, i) => {
    const value = row.value[i]!;
    const off = spread * recordSpread(value, row.recorded, { dtype, scale }) + Math.abs(value) * (error + slack);
    return mayStore(x, value, { dtype, scale }, off);
  });
}

/** Scales under which every element of the row is kept as it was found. */
function scaleRange({ value, recorded, stored }: StoredRow, dtype: DType, spread: number): Range | undefined {
  let low = 0;
  let high = Infinity;
  for (let i = 0; i < stored.length; i++) {
    const [x, kept] = [value[i]!, stored[i]!];
    if (!Number.isFinite(x) || !Number.isFinite(kept)) continue;
    const off = spread * recordSpread(x, recorded, { dtype, scale: 0 });
    if (x * kept < 0 && Math.abs(x) > off) return undefined;
    const [from, to] = magnitudesOf(kept, dtype);
    low = Math.max(low, ((Math.abs(x) - off) / to) * (1 - slack));
    if (from > 0) high = Math.min(high, ((Math.abs(x) + off) / from) * (1 + slack));
  }
  return low <= high && high > 0 && high < Infinity ? { low, high } : undefined;
}

/** Where most ranges overlap. */
function commonRange(ranges: readonly (Range | undefined)[]): Range | undefined {
  const known = ranges.filter((range) => range !== undefined);
  let best: { range: Range; count: number } | undefined;
  for (const { low } of known) {
    const over = known.filter((range) => range.low <= low && low <= range.high);
    if (best && best.count >= over.length) continue;
    best = { range: { low, high: Math.min(...over.map(({ high }) => high)) }, count: over.length };
  }
  return best?.range;
}

/** The number of a range that somebody would choose, else its middle. */
function chosen({ low, high }: Range, rows: readonly StoredRow[], dtype: DType): FittedScale {
  const width = (high - low) / high;
  const middle = Math.fround((low + high) / 2);
  // How wide a range may be for a number of each kind in it not to be chance.
  const kinds: readonly (readonly [number | undefined, number])[] = [
    [1, 2 ** -2],
    [fewestBits(low, high, 1), 2 ** -6],
    [largestValue(rows, dtype), 2 ** -8],
    [fewestBits(low, high, 8), 2 ** -14],
    [Math.fround(Number(middle.toPrecision(3))), 2 ** -16],
  ];
  for (const [scale, widest] of kinds) {
    if (scale !== undefined && scale >= low && scale <= high && width <= widest) return { scale, error: 0 };
  }
  return { scale: middle, error: width };
}

/** The number of `low` to `high` with the shortest binary fraction, of at most `bits` bits. */
function fewestBits(low: number, high: number, bits: number): number | undefined {
  for (let n = 1; n <= bits; n++) {
    const step = 2 ** (Math.floor(Math.log2(high)) - n + 1);
    const multiple = Math.ceil(low / step) * step;
    if (multiple <= high) return multiple;
  }
  return undefined;
}

/** The scale that maps the largest value onto the type's largest number. */
function largestValue(rows: readonly StoredRow[], dtype: DType): number {
  let largest = 0;
  for (const { value } of rows) for (const x of value) if (Math.abs(x) > largest) largest = Math.abs(x);
  return Math.fround(largest / (floatFormat(dtype)?.max ?? 127));
}
