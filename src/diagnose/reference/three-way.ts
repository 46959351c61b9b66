import type { AlignedRows } from "./aligned-rows.js";
import type { Departures } from "./departure.js";
import type { JudgedRun } from "./judged-run.js";
import { alignedSample, type EvaluatedPair, type EvaluatedRun, evaluatedBoth } from "./unit-pair.js";

/**
 * How two runs stand at a value, each judged on its own inputs: same: equal numbers. follows: others, and each follows from
 * its own inputs by rounding. target, reference, both: that one departs from the model there, or each does. shared: both do,
 * by the same fault.
 */
export type PairState = "same" | "follows" | "target" | "reference" | "both" | "shared";

/** One run at a value, against the spec in float64 on that run's own inputs. */
export interface AgainstSpec {
  /** ‖recorded − spec‖ / ‖spec‖ over finite pairs; null where there are none, or the spec is all zeros. */
  readonly error: number | null;
  /** Root mean square of the error in units of its rounding, over the run's own sample; null where it is not finite. */
  readonly rmsZ: number | null;
}

/** A value that both runs recorded of the same tokens. */
export interface ThreeWay {
  readonly unit: string;
  readonly state: PairState;
  /** Rows and elements compared: a sample. */
  readonly rows: number;
  readonly elements: number;
  /** Share of the elements that are equal. */
  readonly equal: number;
  /** ‖target − reference‖ / ‖reference‖ over finite pairs. */
  readonly difference: number | null;
  /** What of it came in: the same figure of what the spec makes of each run's own inputs. */
  readonly cameIn: number | null;
  readonly target: AgainstSpec;
  readonly reference: AgainstSpec;
}

/** Every value that both runs recorded of the same tokens: against each other, and each against the spec in float64. */
export function threeWays(
  target: Departures,
  reference: Departures,
  rows: AlignedRows,
  shared: ReadonlySet<string>,
): ThreeWay[] {
  const runs = [target.run, reference.run].map(({ investigation }) => ({
    investigation,
    evaluator: investigation.evaluator.withoutNoise(),
  })) as [EvaluatedRun, EvaluatedRun];
  const wrong = [target, reference].map(({ all }) => new Set(all.map(({ unit }) => unit)));
  return target.run.investigation.units().flatMap(({ name }): ThreeWay[] => {
    const pair = alignedSample(runs[0].investigation, runs[1].investigation, name, rows);
    if (!pair) return [];
    const both = evaluatedBoth(runs, pair);
    const [a, b] = both.observed;
    const equal = a.filter((x, i) => Object.is(x, b[i]) || x === b[i]).length;
    const [ours, theirs] = wrong.map((units) => units.has(name));
    const state =
      ours && theirs
        ? shared.has(name)
          ? "shared"
          : "both"
        : ours
          ? "target"
          : theirs
            ? "reference"
            : equal === a.length
              ? "same"
              : "follows";
    return [
      {
        unit: name,
        state,
        rows: pair.rows.length,
        elements: a.length,
        equal: a.length > 0 ? Number((equal / a.length).toPrecision(6)) : 1,
        difference: distance(a, b),
        cameIn: distance(...both.expected),
        target: against(both, 0, target.run, name),
        reference: against(both, 1, reference.run, name),
      },
    ];
  });
}

function against({ observed, expected }: EvaluatedPair, side: 0 | 1, run: JudgedRun, name: string): AgainstSpec {
  const rmsZ = run.checks.find(({ node }) => node.name === name)?.statistics.rmsZ ?? Number.NaN;
  return {
    error: distance(observed[side], expected[side]),
    rmsZ: Number.isFinite(rmsZ) ? Number(rmsZ.toPrecision(4)) : null,
  };
}

/** ‖a − b‖ / ‖b‖ over elements that are finite in both; null where b has no length and a does, or nothing is finite. */
export function distance(a: Float64Array, b: Float64Array): number | null {
  let apart = 0;
  let length = 0;
  let count = 0;
  // Squares of what float32 holds do not leave float64's range; sums of what float64 holds may, and are then not a number.
  for (let i = 0; i < a.length; i++) {
    if (!Number.isFinite(a[i]!) || !Number.isFinite(b[i]!)) continue;
    apart += (a[i]! - b[i]!) ** 2;
    length += b[i]! ** 2;
    count++;
  }
  if (apart === 0) return count > 0 ? 0 : null;
  const relative = Math.sqrt(apart / length);
  return Number.isFinite(relative) ? Number(relative.toPrecision(4)) : null;
}
