import { type DType, decode, encode } from "../tensor/dtype.js";

/** Narrow number types by the bits they keep: a table of all their numbers, which a value goes to the nearest of. */
export type NarrowType = "e4m3" | "e5m2" | "int8" | "int4";

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

/** `values` as numbers of `type` with one scale for all of them, which brings the largest to the end of the type. */
export function narrowed(values: readonly number[], type: NarrowType): number[] {
  const table = tableOf(type);
  const top = table.at(-1)!;
  let largest = 1e-12;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const scale = Math.fround(largest / top);
  return values.map((value) => Math.fround(nearest(table, Math.fround(value / scale)) * scale));
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

/** A row or a matrix in parts that share a scale. */
export function inParts(values: readonly number[], size: number, type: NarrowType): number[] {
  const out: number[] = [];
  for (let first = 0; first < values.length; first += size)
    out.push(...narrowed(values.slice(first, first + size), type));
  return out;
}

/** Numbers as a store leaves them. */
export function storedAs(values: readonly number[], store: DType): Float64Array {
  return decode(encode(values, store), store);
}
