import { storeVariance } from "../../spec/noise.js";
import type { Block } from "../../spec/op.js";
import { mayBe } from "../../spec/op.js";
import { type DType, floatFormat } from "../../tensor/dtype.js";
import type { BitMatch } from "./bits.js";

/** An evaluated sample beside its record, all [rows, columns]. */
export interface Comparison {
  readonly rows: Int32Array;
  readonly columns: Int32Array;
  readonly expected: Float64Array;
  readonly observed: Float64Array;
  /** One-sigma rounding error; infinite where the recording can show nothing. */
  readonly noise: Float64Array;
  /** (observed - expected) / noise; 0 where noise is infinite, ±Infinity where only one side is finite. */
  readonly z: Float64Array;
}

/** What one unit's z says. */
export interface Statistics {
  /** Elements with a finite noise: those that were really checked. */
  readonly checked: number;
  readonly total: number;
  readonly rmsZ: number;
  readonly maxZ: number;
  /** Elements where one side is NaN or infinite and the other is not. */
  readonly nonFinite: number;
  /** Rows that are not the bits of another row once more: equal rows err equally and are one piece of evidence. */
  readonly distinctRows: number;
}

/** Compares an evaluated block with what was recorded in `dtype`. */
export function compareBlock(
  block: Block,
  observed: Float64Array,
  dtype: DType,
  rows: Int32Array,
  columns: Int32Array,
): Comparison {
  const size = observed.length;
  const noise = new Float64Array(size);
  const z = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const value = block.value[i]!;
    const seen = observed[i]!;
    const variance = (block.variance[i] ?? 0) + (block.jump?.[i] ?? 0) ** 2 + storeVariance(value, dtype);
    noise[i] = Math.sqrt(variance);
    if (!Number.isFinite(value) || variance === Infinity || Number.isNaN(variance)) noise[i] = Infinity;
    else if (isLegal(value, seen, noise[i]!, block.range?.[i] ?? 0, dtype)) noise[i] = Infinity;
    if (noise[i] === Infinity) z[i] = 0;
    else if (!Number.isFinite(seen)) z[i] = Infinity;
    else if (seen === value) z[i] = 0;
    else z[i] = noise[i]! > 0 ? (seen - value) / noise[i]! : seen > value ? Infinity : -Infinity;
  }
  return { rows, columns, expected: block.value, observed, noise, z };
}

/** Whether `seen` is what a correct kernel may show where types leave their range: flushed, saturated, overflowed. */
export function isLegal(value: number, seen: number, noise: number, range: number, dtype: DType): boolean {
  if (range !== 0 && explainedByRange(seen, range)) return true;
  const format = floatFormat(dtype);
  return (
    format !== undefined && (beyondRange(value, noise, seen, format.max) || flushed(value, seen, format.minExponent))
  );
}

function explainedByRange(seen: number, range: number): boolean {
  if (seen === 0) return (range & mayBe.zero) !== 0;
  if (Number.isNaN(seen)) return (range & mayBe.notANumber) !== 0;
  return !Number.isFinite(seen) && (range & mayBe.infinite) !== 0;
}

/** The stored type cannot hold the value: infinity, or the largest number where stores saturate, is correct. */
function beyondRange(value: number, noise: number, seen: number, max: number): boolean {
  return Math.abs(value) + 4 * noise > max && (!Number.isFinite(seen) || Math.abs(seen) >= max) && !(seen * value < 0);
}

/** Subnormals may be flushed to zero. */
function flushed(value: number, seen: number, minExponent: number): boolean {
  return seen === 0 && value !== 0 && Math.abs(value) < 2 ** minExponent;
}

/** Largest |z| that enters a sum: one broken element must not drown the others' statistics. */
const clip = 1e9;

export function statisticsOf({ observed, noise, z, rows, columns }: Comparison): Statistics {
  let checked = 0;
  let squares = 0;
  let maxZ = 0;
  let nonFinite = 0;
  for (let i = 0; i < z.length; i++) {
    if (noise[i] === Infinity) continue;
    checked++;
    const magnitude = Math.abs(z[i]!);
    if (magnitude > maxZ) maxZ = magnitude;
    if (!Number.isFinite(observed[i]!)) nonFinite++;
    squares += Math.min(clip, magnitude) ** 2;
  }
  const rmsZ = checked ? Math.sqrt(squares / checked) : 0;
  return {
    checked,
    total: z.length,
    rmsZ,
    maxZ,
    nonFinite,
    distinctRows: distinctRows(observed, rows.length, columns.length),
  };
}

/** The same of a unit whose bits a recipe gives. */
export function statisticsOfBits(bits: BitMatch, observed: Float64Array, rows: number, width: number): Statistics {
  const { compared, rmsZ, maxZ } = bits;
  return {
    checked: compared,
    total: observed.length,
    rmsZ,
    maxZ,
    nonFinite: 0,
    distinctRows: distinctRows(observed, rows, width),
  };
}

function distinctRows(observed: Float64Array, rows: number, width: number): number {
  const seen = new Set<number>();
  for (let r = 0; r < rows; r++) {
    let hash = 0;
    for (let c = 0; c < width; c++) hash = (Math.imul(31, hash) + bitsOf(observed[r * width + c]!)) | 0;
    seen.add(hash);
  }
  return seen.size;
}

const scratch = new Float64Array(1);
const words = new Int32Array(scratch.buffer);

function bitsOf(value: number): number {
  scratch[0] = value;
  return words[0]! ^ words[1]!;
}
