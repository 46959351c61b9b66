import type { Sample } from "../../diagnose/bits/sample.js";

/** Cells of one map: enough for the eye, and few enough for a file. */
const mostDown = 96;
const mostAcross = 256;
const mostCells = 8192;

/** Evaluated elements laid out as the cells of a map. */
export interface Cells {
  readonly down: number;
  readonly across: number;
  /** Element shown in each cell, row × columns + column of the sample. */
  readonly at: Uint32Array;
  /** Whether every cell is one element. */
  readonly whole: boolean;
}

/**
 * Lays elements out as cells. A cell of several elements shows the one whose difference is largest: what is wrong in a
 * single place must not fade among its neighbours.
 * @param ulps [rows, columns]: what counts as large; NaN counts as largest.
 */
export function cellsOf({ rows, columns }: Sample, ulps: Float64Array): Cells {
  const across = Math.min(columns.length, mostAcross);
  const down = Math.min(rows.length, mostDown, Math.max(1, Math.floor(mostCells / Math.max(1, across))));
  const at = new Uint32Array(down * across);
  const far = new Float64Array(down * across).fill(-1);
  for (let r = 0; r < rows.length; r++) {
    const y = Math.floor((r * down) / rows.length);
    for (let c = 0; c < columns.length; c++) {
      const cell = y * across + Math.floor((c * across) / columns.length);
      const element = r * columns.length + c;
      const distance = Math.abs(ulps[element]!);
      const size = Number.isNaN(distance) ? Infinity : distance;
      if (size > far[cell]!) {
        far[cell] = size;
        at[cell] = element;
      }
    }
  }
  return { down, across, at, whole: down === rows.length && across === columns.length };
}

/** Base64 of the shown elements of an array, as float32. */
export function shown({ at }: Cells, values: ArrayLike<number>): string {
  return base64(Float32Array.from(at, (element) => values[element]!));
}

/** Base64 of a typed array's bytes, little-endian. */
export function base64(values: Float32Array | Uint32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");
}
