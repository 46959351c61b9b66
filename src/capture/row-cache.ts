import type { ObservedRow } from "../spec/evaluator.js";

const byteLimit = 16 * 2 ** 20;
/** Numbers that memory is taken for at a time: an array of its own for every row would cost more than decoding it. */
const slabSize = 2 ** 15;

/** Rows decoded lately stay decoded, by the view that addressed them; all are dropped when they grow too many. */
export class RowCache {
  readonly #rows = new Map<object, Map<number, ObservedRow>>();
  #bytes = 0;
  #slab = new Float64Array(0);
  #used = 0;

  find(view: object, index: number): ObservedRow | undefined {
    return this.#rows.get(view)?.get(index);
  }

  /** Zeros to decode a row of so many columns into. */
  room(columns: number): Float64Array {
    if (this.#used + columns > this.#slab.length) {
      this.#slab = new Float64Array(Math.max(slabSize, columns));
      this.#used = 0;
    }
    this.#used += columns;
    return this.#slab.subarray(this.#used - columns, this.#used);
  }

  keep(view: object, index: number, row: ObservedRow): ObservedRow {
    if (this.#bytes > byteLimit) {
      this.#rows.clear();
      this.#bytes = 0;
    }
    let rows = this.#rows.get(view);
    if (!rows) {
      rows = new Map();
      this.#rows.set(view, rows);
    }
    rows.set(index, row);
    this.#bytes += row.value.byteLength;
    return row;
  }
}
