import { floats, kept } from "../tensor/scratch.js";
import { areAll, type Block } from "./op.js";

/** One row of a value as far as it is known: all its columns, or those it was computed for. */
export interface Row {
  readonly value: Float64Array;
  readonly variance?: Float64Array | undefined;
  readonly jump?: Float64Array | undefined;
  readonly range?: Uint8Array | undefined;
}

/** A row from before the recording, or of no step at all: nobody can say what it holds. */
export function unknownRow(columns: number): Row {
  return { value: new Float64Array(columns), variance: new Float64Array(columns).fill(Infinity) };
}

/** Row `i` of a block of rows that are `size` wide. */
export function rowOf(block: Block, i: number, size: number): Row {
  const from = i * size;
  return {
    value: block.value.subarray(from, from + size),
    variance: block.variance.length > 0 ? block.variance.subarray(from, from + size) : undefined,
    jump: block.jump?.subarray(from, from + size),
    range: block.range?.subarray(from, from + size),
  };
}

/** A block of its own, which outlives the work it was evaluated in. */
export function keptBlock({ value, variance, jump, range }: Block): Block {
  return { value: kept(value), variance: kept(variance), jump: kept(jump), range };
}

/** Some columns of a row. */
export function pick(row: Row, columns: Int32Array): Row {
  return {
    value: Float64Array.from(columns, (c) => row.value[c]!),
    variance: row.variance && Float64Array.from(columns, (c) => row.variance![c]!),
    jump: row.jump && Float64Array.from(columns, (c) => row.jump![c]!),
    range: row.range && Uint8Array.from(columns, (c) => row.range![c]!),
  };
}

/** The columns asked for of rows that are `width` wide, [rows, columns]; their variances where `noise` is wanted. */
export function assemble(rows: readonly Row[], columns: Int32Array, width: number, noise: boolean): Block {
  const size = columns.length;
  const value = floats(rows.length * size);
  const variance = floats(noise ? rows.length * size : 0);
  let range: Uint8Array | undefined;
  let jump: Float64Array | undefined;
  const whole = areAll(columns, width);
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    const at = i * size;
    place(row.value, columns, whole, value, at);
    if (noise && row.variance) place(row.variance, columns, whole, variance, at);
    if (row.range) {
      range ??= new Uint8Array(value.length);
      place(row.range, columns, whole, range, at);
    }
    if (row.jump) {
      jump ??= floats(value.length);
      place(row.jump, columns, whole, jump, at);
    }
  }
  return { value, variance, jump, range };
}

/** Columns of one row, all of them or those asked for, go to `out` from `at` on. */
function place<T extends Float64Array | Uint8Array>(
  row: T,
  columns: Int32Array,
  whole: boolean,
  out: T,
  at: number,
): void {
  if (whole) out.set(row, at);
  else for (let c = 0; c < columns.length; c++) out[at + c] = row[columns[c]!]!;
}
