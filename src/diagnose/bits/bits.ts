import type { Evaluator } from "../../spec/evaluator.js";
import { surprise } from "../../spec/noise.js";
import { indices } from "../../spec/op.js";
import type { Phase } from "../../spec/phase.js";
import { type DType, type FloatFormat, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import { copied } from "../../tensor/scratch.js";
import { tallyOf } from "../../tensor/tally.js";
import { countPhases, type PhaseCounts } from "./phase-counts.js";
import type { Sample } from "./sample.js";
import { isLegal } from "./statistics.js";

/** How a recording's bits agree with a unit evaluated under one recipe. */
export interface BitMatch {
  /** Elements that could be compared. */
  readonly compared: number;
  /** Those that are equal bit for bit. */
  readonly equal: number;
  /** Those that differ by more than the order of summation can cause. */
  readonly beyond: number;
  /**
   * -ln of a bound on the probability of the most improbable difference, or of those of all independent rows together if
   * that is less; 0 when all bits are equal.
   */
  readonly surprise: number;
  /** The largest difference in units in the last place. */
  readonly ulps: number;
  /** Some of the elements beyond, as indices into the sample. */
  readonly worst: readonly number[];
  /** Elements compared and equal by the phase of their rows, where that was asked. */
  readonly phases?: PhaseCounts | undefined;
  /** What one store took from the equal elements, in units of its standard error: root mean square and largest. */
  readonly rmsZ: number;
  readonly maxZ: number;
}

/** Elements of a sample, by row and column index in it. */
export type Included = (row: number, column: number) => boolean;

/** Differing elements whose probability is worked out: the farthest, and an even spread of the others. */
const closerLook = 192;

/** How a comparison is made. */
export interface MatchOptions {
  /** Surprise from which an element counts as beyond. */
  readonly limit: number;
  readonly include?: Included | undefined;
  /** Rows of the sample that err independently of each other, asked for where rows differ; absent: no two do. */
  readonly independent?: (() => ReadonlySet<number>) | undefined;
  /** Stop at the first elements that are beyond: whether the recipe gives the bits is all that is asked. */
  readonly decide?: boolean;
  /** Phase of a row: matches are counted by it. */
  readonly phaseOf?: ((row: number) => Phase) | undefined;
}

/** Elements that are looked at first where only a decision is wanted. */
const firstLook = 4;

/**
 * Compares what was recorded with the bits `evaluator`'s recipe gives.
 * @param evaluator values under a recipe, without noise.
 * @param observed [rows, columns] of the sample.
 */
export function matchBits(
  evaluator: Evaluator,
  name: string,
  { rows, columns }: Sample,
  observed: Float64Array,
  dtype: DType,
  { limit, include, independent, decide = false, phaseOf }: MatchOptions,
): BitMatch {
  const { value } = evaluator.evaluate(name, rows, columns);
  const expected = copied(value);
  roundAll(expected, dtype);
  const kept = include && ((i: number) => include(Math.floor(i / columns.length), i % columns.length));
  const { compared, equal, squares, maxZ, differing } = tally({ value, expected, observed, dtype, limit }, kept);
  const noisy = differing.length > 0 ? evaluator.withNoise() : evaluator;
  const look = new CloserLook(noisy, name, { rows, columns }, { value, expected, observed, dtype, limit });
  const first = decide ? farthestOf(differing, observed, firstLook) : [];
  look.at(first);
  if (look.worst.length === 0) look.at(pick(differing, observed).filter((i) => !first.includes(i)));
  // What was looked at closely stands for the rest.
  const share = look.count > 0 ? differing.length / look.count : 0;
  return {
    compared: compared - Math.round(look.skipped.size * share),
    equal,
    ...(phaseOf && { phases: countPhases(rows, phaseOf, ...countRows(look, kept, differing, equal)) }),
    beyond: Math.ceil(look.worst.length * share),
    surprise: Math.max(look.surprise, jointSurprise(look.byRow, columns.length, independent)),
    ulps: look.ulps,
    worst: look.worst,
    rmsZ: equal > 0 ? Math.sqrt(squares / equal) : 0,
    maxZ,
  };
}

/** Counts equal elements, what one store took from them, and the others. */
function tally({ value, expected, observed, dtype }: Compared, kept: ((i: number) => boolean) | undefined) {
  // Whole numbers are stored as they are.
  const format = floatFormat(dtype) ?? floatFormat("float64")!;
  const chosen = kept && indices(observed.length).filter(kept);
  const taken = (values: Float64Array) => (chosen ? Float64Array.from(chosen, (i) => values[i]!) : values);
  const { equal, squares, maxZ, others } = tallyOf(taken(value), taken(expected), taken(observed), format);
  const differing = others.map((other): Difference => {
    const i = chosen ? chosen[other]! : other;
    return { i, away: Math.abs(observed[i]! - value[i]!) };
  });
  return { compared: equal + differing.length, equal, squares, maxZ, differing };
}

/** Elements of each row that are equal, and those that were compared: not those that a closer look could not judge. */
function countRows(
  { sample, compared: { expected, observed }, skipped }: CloserLook,
  kept: ((i: number) => boolean) | undefined,
  differing: readonly Difference[],
  equalInAll: number,
): [equal: Int32Array, compared: Int32Array] {
  const width = sample.columns.length;
  const differ = new Int32Array(sample.rows.length);
  for (const { i } of differing) differ[Math.floor(i / width)]!++;
  // Of a row all of whose elements were compared, those are equal that do not differ.
  const isWhole = equalInAll + differing.length === observed.length;
  const equal = differ.map((count, r) => {
    if (isWhole) return width - count;
    let same = 0;
    for (let i = r * width; i < (r + 1) * width; i++) if (observed[i] === expected[i] && (!kept || kept(i))) same++;
    return same;
  });
  const compared = equal.slice();
  for (const { i } of differing) if (!skipped.has(i)) compared[Math.floor(i / width)]!++;
  return [equal, compared];
}

/** An element that is not the recorded one, by its index into the sample. */
interface Difference {
  readonly i: number;
  readonly away: number;
}

/** Values of a sample as evaluated, as stored, and as recorded. */
interface Compared {
  readonly value: Float64Array;
  readonly expected: Float64Array;
  readonly observed: Float64Array;
  readonly dtype: DType;
  readonly limit: number;
}

/** Works out how improbable single differences are. */
class CloserLook {
  count = 0;
  surprise = 0;
  ulps = 0;
  /** Elements that rest on values nobody knows, or leave the range of their types. */
  readonly skipped = new Set<number>();
  readonly worst: number[] = [];
  /** The most improbable difference of each row that has any. */
  readonly byRow = new Map<number, number>();

  constructor(
    readonly noisy: Evaluator,
    readonly name: string,
    readonly sample: Sample,
    readonly compared: Compared,
  ) {}

  at(chosen: readonly number[]): void {
    const { rows, columns } = this.sample;
    const byRow = new Map<number, number[]>();
    for (const i of chosen) {
      const r = Math.floor(i / columns.length);
      const list = byRow.get(r);
      if (list) list.push(i);
      else byRow.set(r, [i]);
    }
    for (const [r, members] of byRow) {
      const block = this.noisy.evaluate(
        this.name,
        Int32Array.of(rows[r]!),
        Int32Array.from(members, (i) => columns[i % columns.length]!),
      );
      for (const [m, i] of members.entries()) {
        this.#judge(i, block.variance[m]!, block.jump?.[m] ?? 0, block.range?.[m] ?? 0);
      }
    }
  }

  #judge(i: number, variance: number, jump: number, range: number): void {
    const { value, expected, observed, dtype, limit } = this.compared;
    const seen = observed[i]!;
    const format = floatFormat(dtype);
    this.count++;
    if (
      variance === Infinity ||
      Number.isNaN(variance) ||
      isLegal(value[i]!, seen, Math.sqrt(variance), range, dtype)
    ) {
      this.skipped.add(i);
      return;
    }
    const improbable = Number.isFinite(seen) ? surprise(distanceTo(value[i]!, seen, format), variance, jump) : Infinity;
    if (improbable > limit) this.worst.push(i);
    if (improbable > this.surprise) this.surprise = improbable;
    const row = Math.floor(i / this.sample.columns.length);
    this.byRow.set(row, Math.max(this.byRow.get(row) ?? 0, improbable));
    if (!format || !Number.isFinite(seen)) return;
    const larger = Math.max(Math.abs(seen), Math.abs(expected[i]!));
    this.ulps = Math.max(this.ulps, Math.abs(seen - expected[i]!) / unitInLastPlace(larger, format));
  }
}

/**
 * How improbable the differences of independent rows are together. The most improbable of a row's `width` elements exceeds
 * ln(width) + s with probability e^-s at most, and the sum S of n such excesses, each an exponential variable or less,
 * exceeds n with -ln P = S - n - n·ln(S / n) (Chernoff).
 */
function jointSurprise(
  byRow: ReadonlyMap<number, number>,
  width: number,
  independent: MatchOptions["independent"],
): number {
  if (!independent || byRow.size === 0) return 0;
  const rows = independent();
  const n = rows.size;
  let sum = 0;
  for (const [row, surprising] of byRow) if (rows.has(row)) sum += Math.max(0, surprising - Math.log(width));
  return sum > n ? sum - n - n * Math.log(sum / n) : 0;
}

/** The farthest away for their own size and the farthest absolutely, half each. */
function farthestOf(differing: readonly Difference[], observed: Float64Array, count: number): number[] {
  const half = Math.ceil(count / 2);
  const relative = largest(differing, half, ({ i, away }) => away / Math.abs(observed[i]!));
  const absolute = largest(differing, half, ({ away }) => away);
  return [...new Set([...relative, ...absolute])];
}

/** Indices of the `count` differences of largest measure, largest first; what is no number is largest. */
function largest(differing: readonly Difference[], count: number, measure: (one: Difference) => number): number[] {
  const kept: { readonly i: number; readonly size: number }[] = [];
  for (const one of differing) {
    const measured = measure(one);
    const size = Number.isNaN(measured) ? Infinity : measured;
    if (kept.length === count && size <= kept[count - 1]!.size) continue;
    let at = kept.length;
    while (at > 0 && kept[at - 1]!.size < size) at--;
    kept.splice(at, 0, { i: one.i, size });
    if (kept.length > count) kept.pop();
  }
  return kept.map(({ i }) => i);
}

/** The farthest away, and an even spread. */
function pick(differing: readonly Difference[], observed: Float64Array): number[] {
  if (differing.length <= closerLook) return differing.map(({ i }) => i);
  const third = closerLook / 3;
  const chosen = new Set(farthestOf(differing, observed, 2 * third));
  const stride = Math.floor(differing.length / third);
  for (let k = 0; k < differing.length; k += stride) chosen.add(differing[k]!.i);
  return [...chosen].sort((a, b) => a - b);
}

/** How far `value` must move before it is rounded to `seen`. */
function distanceTo(value: number, seen: number, format: FloatFormat | undefined): number {
  const away = Math.abs(value - seen);
  if (!format) return away;
  const ulp = unitInLastPlace(seen, format);
  // Below a power of two the neighbours stand half as far apart.
  const inward = Math.abs(value) < Math.abs(seen) && Math.abs(seen) / ulp === 2 ** format.fractionBits;
  return Math.max(0, away - (inward ? ulp / 4 : ulp / 2));
}
