import { RowProducts, type Target } from "../tensor/row-products.js";
import { dotsInPlace, type SpacedRows } from "../tensor/spaced-rows.js";

/**
 * How sums are ordered. The spec means exact arithmetic; `RoundedArithmetic` is one of the many correct orders, so that
 * one op definition serves both.
 */
export interface Arithmetic {
  /** Σ a[aStart + i] · b[bStart + i], i < n. */
  dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, n: number): number;
  /** The same of a with each of some rows: into out[0], out[1], … */
  dots(a: Float64Array, aStart: number, rows: SpacedRows, out: Float64Array): void;
  /**
   * The same of the first `rows` rows of a, [rows, n], each with one row of b after the other. Until all of them are done,
   * no other rows' are.
   * @param times rows of b there are.
   */
  products(a: Float64Array, rows: number, n: number, times: number): Products;
  /** Σ a[start + i], i < n. */
  sum(a: Float64Array, start: number, n: number): number;
  /** A value that an op keeps in its compute type. */
  compute(value: number): number;
}

/** Multiplies rows with n numbers from bStart on: into out's values[at], values[at + stride], … */
export type Products = (b: Float64Array, bStart: number, out: Target) => void;

/** Rows below which one alone is quicker by itself. */
const fewRows = 4;
/** Rows of the other factor below which rows are multiplied sooner than placed. */
const fewTimes = 8;
let rowProducts: RowProducts | undefined;

/** The definition itself: float64 throughout, nothing rounded on purpose. */
export const exactArithmetic: Arithmetic = {
  dot(a, aStart, b, bStart, n) {
    // Four sums at a time: one alone would wait for each addition to finish before the next.
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    let i = 0;
    for (; i + 3 < n; i += 4) {
      const p = aStart + i;
      const q = bStart + i;
      s0 += a[p]! * b[q]!;
      s1 += a[p + 1]! * b[q + 1]!;
      s2 += a[p + 2]! * b[q + 2]!;
      s3 += a[p + 3]! * b[q + 3]!;
    }
    for (; i < n; i++) s0 += a[aStart + i]! * b[bStart + i]!;
    return s0 + s1 + (s2 + s3);
  },
  dots(a, aStart, rows, out) {
    if (!dotsInPlace(a, aStart, rows, out)) dotByDot(this, a, aStart, rows, out);
  },
  products(a, rows, n, times) {
    if (rows < fewRows || times < fewTimes) return oneByOne(this, a, rows, n);
    rowProducts ??= new RowProducts();
    const placed = rowProducts;
    placed.place(a, rows, n);
    return (b, bStart, out) => placed.multiply(b, bStart, out);
  },
  sum(a, start, n) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += a[start + i]!;
    return sum;
  },
  compute: (value) => value,
};

function dotByDot(arithmetic: Arithmetic, a: Float64Array, aStart: number, rows: SpacedRows, out: Float64Array): void {
  const { values, first, stride, count, length } = rows;
  for (let j = 0; j < count; j++) out[j] = arithmetic.dot(a, aStart, values, first + j * stride, length);
}

function oneByOne(arithmetic: Arithmetic, a: Float64Array, rows: number, n: number): Products {
  return (b, bStart, { values, at, stride }) => {
    for (let r = 0, to = at; r < rows; r++, to += stride) values[to] = arithmetic.dot(a, r * n, b, bStart, n);
  };
}

export interface SummationChoices {
  /** Terms per partial sum; partial sums are added in order. 1 is plain sequential summation. */
  readonly block: number;
  /** Whether sums run from the last term to the first. */
  readonly reversed: boolean;
}

/** One correct order: float32 sums. Where values are rounded besides is a matter of recipes. */
export class RoundedArithmetic implements Arithmetic {
  constructor(readonly choices: SummationChoices) {}

  dots(a: Float64Array, aStart: number, rows: SpacedRows, out: Float64Array): void {
    dotByDot(this, a, aStart, rows, out);
  }

  products(a: Float64Array, rows: number, n: number): Products {
    return oneByOne(this, a, rows, n);
  }

  dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, n: number): number {
    const { block, reversed } = this.choices;
    // The last term first: both starts move to the end and steps run backwards.
    const step = reversed ? -1 : 1;
    let i = reversed ? aStart + n - 1 : aStart;
    let j = reversed ? bStart + n - 1 : bStart;
    let total = 0;
    let first = 0;
    // Four partial sums side by side, each in its own order: one alone would wait for each rounding before the next.
    for (const apart = block * step; first + 4 * block <= n; first += 4 * block) {
      let p0 = 0;
      let p1 = 0;
      let p2 = 0;
      let p3 = 0;
      for (let left = block; left > 0; left--, i += step, j += step) {
        p0 = Math.fround(p0 + a[i]! * b[j]!);
        p1 = Math.fround(p1 + a[i + apart]! * b[j + apart]!);
        p2 = Math.fround(p2 + a[i + 2 * apart]! * b[j + 2 * apart]!);
        p3 = Math.fround(p3 + a[i + 3 * apart]! * b[j + 3 * apart]!);
      }
      i += 3 * apart;
      j += 3 * apart;
      total = Math.fround(Math.fround(Math.fround(Math.fround(total + p0) + p1) + p2) + p3);
    }
    for (; first < n; first += block) {
      let partial = 0;
      for (let left = Math.min(block, n - first); left > 0; left--, i += step, j += step) {
        partial = Math.fround(partial + a[i]! * b[j]!);
      }
      total = Math.fround(total + partial);
    }
    return total;
  }

  sum(a: Float64Array, start: number, n: number): number {
    const { block, reversed } = this.choices;
    let total = 0;
    for (let first = 0; first < n; first += block) {
      let partial = 0;
      const end = Math.min(first + block, n);
      for (let i = first; i < end; i++) partial = Math.fround(partial + a[start + (reversed ? n - 1 - i : i)]!);
      total = Math.fround(total + partial);
    }
    return total;
  }

  compute(value: number): number {
    return Math.fround(value);
  }
}
