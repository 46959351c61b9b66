import { storeVariance } from "../spec/noise.js";
import type { Block } from "../spec/op.js";
import { mayBe } from "../spec/op.js";
import { type DType, floatFormat } from "../tensor/dtype.js";

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
  /** Variance that a whole row and head shares. */
  readonly shared?: Float64Array | undefined;
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
  /** Root mean square of each row's gain over its standard error: 1 when rows differ by independent rounding. */
  readonly rowGainZ: number;
  /** The same per column, and for an additive constant per column. */
  readonly columnGainZ: number;
  readonly columnOffsetZ: number;
  /** A single gain over the whole sample, over its standard error. */
  readonly gainZ: number;
}

/** Compares an evaluated block with what was recorded in `dtype`. */
export function compareBlock(
  block: Block,
  observed: Float64Array,
  dtype: DType,
  rows: Int32Array,
  columns: Int32Array,
): Comparison {
  const format = floatFormat(dtype);
  const size = observed.length;
  const noise = new Float64Array(size);
  const z = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const value = block.value[i]!;
    const seen = observed[i]!;
    const variance = block.variance[i]! + storeVariance(value, dtype);
    noise[i] = Math.sqrt(variance);
    if (!Number.isFinite(value) || variance === Infinity || Number.isNaN(variance)) noise[i] = Infinity;
    else if (block.range?.[i] && explainedByRange(seen, block.range[i]!)) noise[i] = Infinity;
    else if (format && beyondRange(value, noise[i]!, seen, format.max)) noise[i] = Infinity;
    else if (flushed(value, seen, format?.minExponent)) noise[i] = Infinity;
    if (noise[i] === Infinity) z[i] = 0;
    else if (!Number.isFinite(seen)) z[i] = Infinity;
    else if (seen === value) z[i] = 0;
    else z[i] = noise[i]! > 0 ? (seen - value) / noise[i]! : seen > value ? Infinity : -Infinity;
  }
  return { rows, columns, expected: block.value, observed, noise, z, shared: block.shared };
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
function flushed(value: number, seen: number, minExponent: number | undefined): boolean {
  return seen === 0 && value !== 0 && minExponent !== undefined && Math.abs(value) < 2 ** minExponent;
}

/** Largest |z| that enters a sum: one broken element must not drown the others' statistics. */
const clip = 1e9;

export function statisticsOf(comparison: Comparison): Statistics {
  const { rows, columns, expected, noise, z } = comparison;
  const width = columns.length;
  let checked = 0;
  let squares = 0;
  let maxZ = 0;
  let nonFinite = 0;
  const row = new Gains(rows.length);
  const column = new Gains(width);
  const offset = new Gains(width);
  const all = new Gains(1);
  for (let i = 0; i < z.length; i++) {
    if (noise[i] === Infinity) continue;
    checked++;
    const magnitude = Math.abs(z[i]!);
    if (magnitude > maxZ) maxZ = magnitude;
    if (!Number.isFinite(comparison.observed[i]!)) nonFinite++;
    const clipped = Math.max(-clip, Math.min(clip, z[i]!));
    squares += clipped * clipped;
    if (noise[i] === 0) continue;
    const signal = expected[i]! / noise[i]!;
    row.push(Math.floor(i / width), signal, clipped, comparison.shared?.[i], expected[i]!);
    column.push(i % width, signal, clipped);
    offset.push(i % width, 1, clipped);
    all.push(0, signal, clipped);
  }
  return {
    checked,
    total: z.length,
    rmsZ: checked ? Math.sqrt(squares / checked) : 0,
    maxZ,
    nonFinite,
    rowGainZ: row.rms(8),
    columnGainZ: column.rms(8),
    columnOffsetZ: offset.rms(8),
    gainZ: all.rms(32),
  };
}

/** Relative error that a whole group may share: rsqrt, exp and division of float32 kernels are off by a few ulp. */
const sharedError = 2 ** -21;

/** Least-squares gains of z on a signal, per group, in standard errors. */
class Gains {
  readonly #cross: Float64Array;
  readonly #power: Float64Array;
  readonly #count: Int32Array;
  readonly #shared: Float64Array;
  readonly #values: Float64Array;

  constructor(groups: number) {
    this.#cross = new Float64Array(groups);
    this.#power = new Float64Array(groups);
    this.#count = new Int32Array(groups);
    this.#shared = new Float64Array(groups);
    this.#values = new Float64Array(groups);
  }

  /** @param shared variance that the group's elements have in common, beside their `value`. */
  push(group: number, signal: number, z: number, shared = 0, value = 0): void {
    this.#cross[group]! += signal * z;
    this.#power[group]! += signal * signal;
    this.#count[group]!++;
    this.#shared[group]! += Number.isFinite(shared) ? shared : 0;
    this.#values[group]! += value * value;
  }

  /**
   * Root mean square over groups of at least `minimum` elements; 0 when there are none. A few groups scatter more than
   * many: the result is made comparable by √(1 + 12 / groups), which keeps the chance of a false alarm below 10⁻⁶.
   */
  rms(minimum: number): number {
    let sum = 0;
    let groups = 0;
    for (let g = 0; g < this.#count.length; g++) {
      if (this.#count[g]! < minimum || this.#power[g] === 0) continue;
      const gain = this.#cross[g]! / this.#power[g]!;
      const together = this.#values[g]! > 0 ? this.#shared[g]! / this.#values[g]! : 0;
      sum += gain ** 2 / (1 / this.#power[g]! + sharedError ** 2 + together);
      groups++;
    }
    return groups ? Math.sqrt(sum / groups / (1 + 12 / groups)) : 0;
  }
}
