import type { Evaluator } from "../../spec/evaluator.js";
import { roundAll } from "../../tensor/rounding.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { UnitCheck } from "../check/investigation.js";
import type { Judge } from "./judge.js";
import { farthestZ } from "./remainder.js";

/** Rows at which rewrites are screened: wrong ones that see few keys, since everything they rest on is computed anew. */
const screenedRows = 4;
/** Errors, in units of rounding, that a rewrite may leave whatever the spec's are. */
export const screenLimit = 3;
/** Share of the spec's errors at the first row that a rewrite must not leave more of. */
const promising = 0.9;
/** Screened rewrites that are judged with all rows and their noise, nearest first. */
const judged = 8;
/** Screened rewrites that few rows may not tell apart, and all rows are asked about. */
const rescreened = 48;

/** A rewrite with the size of the errors it leaves, in units of rounding. */
export interface Screened {
  readonly hypothesis: Hypothesis;
  readonly left: number;
}

/** The nearest ones. */
export function closest(screened: readonly Screened[], most = judged): Screened[] {
  return [...screened].sort((a, b) => a.left - b.left).slice(0, most);
}

/** A unit at few of its rows, by values alone: the noise of a whole span is what costs. */
export class Screen {
  readonly #rows: Int32Array;
  readonly #columns: Int32Array;
  readonly #observed: Float64Array;
  readonly #sigma: Float64Array;
  readonly #base: Evaluator;
  /** The same as the run rounds, by the values that a rewrite introduces. */
  readonly #rounded = new Map<string, Evaluator>();
  readonly #hasOthers: boolean;
  /** The spec's own errors at these rows, and at the first. */
  readonly before: number;
  readonly #beforeFirst: number;

  constructor(
    readonly judge: Judge,
    readonly check: UnitCheck,
  ) {
    this.#hasOthers = check.magnitude.notANumber + check.magnitude.infinite > 0;
    const { comparison } = check;
    const { rows } = judge.investigation.observations;
    const width = comparison.columns.length;
    const wrongest = Array.from(comparison.rows, (row, r) => ({
      r,
      row,
      off: worst(comparison.z.subarray(r * width, (r + 1) * width)),
    }));
    const most = Math.max(...wrongest.map(({ off }) => off));
    // The row's own worst element says whether it is wrong, against the worst of all.
    const chosen = wrongest
      .filter(({ off }) => off >= Math.min(most, Math.max(6, most / 30)))
      // A token that sees itself alone shows little.
      .filter(({ row }, _, all) => rows.position[row]! > 0 || all.every((other) => rows.position[other.row] === 0))
      .sort((a, b) => rows.keyCount(a.row) - rows.keyCount(b.row))
      .slice(0, screenedRows)
      .sort((a, b) => a.row - b.row);
    this.#rows = Int32Array.from(chosen, ({ row }) => row);
    this.#columns = comparison.columns;
    const picked = (of: Float64Array) =>
      Float64Array.from(
        { length: chosen.length * width },
        (_, i) => of[chosen[Math.floor(i / width)]!.r * width + (i % width)]!,
      );
    this.#observed = picked(comparison.observed);
    this.#sigma = picked(comparison.noise);
    this.#base = judge.quiet(judge.investigation.evaluator);
    const z = picked(comparison.z);
    this.before = rms(z, this.#sigma);
    this.#beforeFirst = rms(z.subarray(0, width), this.#sigma);
  }

  /**
   * The errors a rewrite leaves; undefined when those of the first row are hardly smaller than the spec's.
   * @param fine whether so little changes that it matters how the run rounds.
   */
  left(hypothesis: Hypothesis, fine = false): number | undefined {
    this.judge.spans.count(this.check);
    const values = this.#values(hypothesis, fine);
    const first = values(this.#rows.subarray(0, 1));
    if (this.#errors(first) > Math.max(screenLimit, promising * this.#beforeFirst)) return undefined;
    return this.#errors(values(this.#rows));
  }

  /** Values with a rewrite: exact, or rounded as the run does where that decides, as what has left the range of its type does. */
  #values(hypothesis: Hypothesis, fine: boolean): (rows: Int32Array) => Float64Array {
    const { judge, check } = this;
    const { name } = check.node;
    if (!((fine || this.#hasOthers) && judge.spans.decides(check))) {
      const evaluator = this.#base.rewritten(hypothesis.replacements);
      return (rows) => evaluator.evaluate(name, rows, this.#columns).value;
    }
    const [recipe] = judge.spans.recipes(check, hypothesis);
    const key = [...recipe!.kept].join();
    const base = this.#rounded.get(key) ?? judge.investigation.evaluator.under(recipe!, check.node, false);
    this.#rounded.set(key, base);
    const evaluator = base.rewritten(hypothesis.replacements);
    return (rows) => {
      const { value } = evaluator.evaluate(name, rows, this.#columns);
      roundAll(value, judge.investigation.observations.dtype(name)!);
      return value;
    };
  }

  /** The nearest ones: where few rows leave more than are judged, by all rows. */
  closest(screened: readonly Screened[], fine = false): Screened[] {
    const few = closest(screened, rescreened);
    if (few.length <= judged) return few;
    const { rows, observed, noise } = this.check.comparison;
    return closest(
      few.map(({ hypothesis }) => ({
        hypothesis,
        left: errorsOf(this.#values(hypothesis, fine)(rows), observed, noise),
      })),
    );
  }

  #errors(value: Float64Array): number {
    return errorsOf(value, this.#observed, this.#sigma);
  }
}

/** Root mean square of what values leave of a record, in units of sigma. */
function errorsOf(value: Float64Array, observed: Float64Array, sigma: Float64Array): number {
  const z = value.map((x, i) => (Object.is(x, observed[i]) ? 0 : (observed[i]! - x) / sigma[i]!));
  return rms(z, sigma);
}

/** Root mean square of z where sigma is finite. */
function rms(z: Float64Array, sigma: Float64Array): number {
  let sum = 0;
  let count = 0;
  for (let i = 0; i < z.length; i++) {
    if (!Number.isFinite(sigma[i]!)) continue;
    const off = Math.abs(z[i]!);
    sum += (off < farthestZ ? off : farthestZ) ** 2;
    count++;
  }
  return Math.sqrt(sum / Math.max(1, count));
}

function worst(z: Float64Array): number {
  let most = 0;
  for (const x of z) most = Math.max(most, Math.min(farthestZ, Math.abs(x)));
  return most;
}
