import { type DType, decode, encode } from "../tensor/dtype.js";

/** Narrow number types by the bits they keep: a table of all their numbers, which a value goes to the nearest of. */
export type NarrowType = "e4m3" | "e5m2" | "int8" | "int4";

/** What shares a scale: all, a row, a block of 128 by 128, a head or a group of that many columns of a row; "none" is a cast. */
export type SharedScale = "none" | "tensor" | "row" | "block" | number;

const tables = new Map<NarrowType, Float64Array>();

function tableOf(type: NarrowType): Float64Array {
  let table = tables.get(type);
  if (!table) {
    table = type.startsWith("e") ? floats(type === "e4m3" ? "float8_e4m3fn" : "float8_e5m2") : integers(type);
    tables.set(type, table);
  }
  return table;
}

function floats(dtype: DType): Float64Array {
  const all = decode(
    Uint8Array.from({ length: 256 }, (_, bits) => bits),
    dtype,
  );
  return Float64Array.from(new Set(all.filter(Number.isFinite))).sort();
}

function integers(type: NarrowType): Float64Array {
  const top = type === "int8" ? 127 : 7;
  return Float64Array.from({ length: 2 * top + 1 }, (_, i) => i - top);
}

/** The nearest number of a rising table; of two, the one whose bits end in 0. */
function nearest(table: Float64Array, value: number): number {
  let above = table.findIndex((x) => x >= value);
  if (above < 0) above = table.length - 1;
  const below = Math.max(0, above - 1);
  const [down, up] = [value - table[below]!, table[above]! - value];
  if (down !== up) return down < up ? table[below]! : table[above]!;
  const middle = table.length >> 1;
  return (below - middle) % 2 === 0 ? table[below]! : table[above]!;
}

/** `value` as a number of `type` times `scale`. */
export function narrowed(value: number, type: NarrowType, scale = 1): number {
  return Math.fround(nearest(tableOf(type), Math.fround(value / scale)) * scale);
}

/** A matrix [rows, columns] in narrow numbers; the scale brings the largest that share it to the end of the type. */
export function narrowedMatrix(
  values: Float64Array,
  columns: number,
  type: NarrowType,
  shared: SharedScale,
): Float64Array {
  const rows = values.length / columns;
  const high = shared === "tensor" || shared === "none" ? rows : shared === "block" ? 128 : 1;
  const wide = typeof shared === "number" ? shared : shared === "block" ? 128 : columns;
  const top = tableOf(type).at(-1)!;
  const out = new Float64Array(values.length);
  for (let row = 0; row < rows; row += high) {
    for (let column = 0; column < columns; column += wide) {
      const members: number[] = [];
      for (let r = row; r < Math.min(rows, row + high); r++)
        for (let c = column; c < Math.min(columns, column + wide); c++) members.push(r * columns + c);
      const largest = members.reduce((most, i) => Math.max(most, Math.abs(values[i]!)), 1e-12);
      const scale = shared === "none" ? 1 : Math.fround(largest / top);
      for (const i of members) out[i] = narrowed(values[i]!, type, scale);
    }
  }
  return out;
}

/** Numbers as a store leaves them. */
export function storedAs(values: Float64Array, store: DType): Float64Array {
  return decode(encode(values, store), store);
}
