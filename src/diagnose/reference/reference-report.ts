import { InputError } from "../../tensor/errors.js";
import type { Cause } from "../explain/cause.js";
import type { RecordingSummary, Verdict } from "../tell/verdict.js";
import { type AgainstTokens, againstTokens } from "./against-tokens.js";
import { AlignedRows, type ForkedText } from "./aligned-rows.js";
import { conclude } from "./conclusion.js";
import { Departures } from "./departure.js";
import { differences } from "./differences.js";
import type { JudgedRun } from "./judged-run.js";
import { findParting, type Parting } from "./parting.js";
import { type SharedFault, sharedFaults } from "./shared-faults.js";
import { type ThreeWay, threeWays } from "./three-way.js";

/** What a reference run adds to a verdict: stable, documented in docs/reference-runs.md. Fields may be added. */
export interface ReferenceReport {
  /** One or two sentences. */
  readonly summary: string;
  /** The reference, judged by itself. */
  readonly recording: RecordingSummary;
  readonly verdict: Verdict["verdict"];
  readonly causes: readonly Cause[];
  readonly aligned: Aligned;
  /** The first place at which one of the runs departs from the model and the other does not, or otherwise; null: nowhere. */
  readonly parting: Parting | null;
  /** Faults that both have, so that this reference cannot show them. */
  readonly shared: readonly SharedFault[];
  /** The first value, in order of execution, of which not all numbers are equal; of correct runs too. */
  readonly firstDifference: string | null;
  readonly values: readonly ThreeWay[];
  readonly fromTokens: AgainstTokens | null;
  /** Why a part is missing. */
  readonly notes: readonly string[];
}

/** What two runs have in common. */
export interface Aligned {
  /** Rows of the target that have one of the same text in the reference, of all. */
  readonly rows: number;
  readonly of: number;
  /** Values compared. */
  readonly values: number;
  readonly onlyInTarget: readonly string[];
  readonly onlyInReference: readonly string[];
  /** In what the two runs are not alike although both may be right. */
  readonly differences: readonly string[];
  readonly forks: readonly ForkedText[];
}

/** A verdict, with what a reference run adds to it where there was one. */
export interface Diagnosis extends Verdict {
  readonly reference?: ReferenceReport;
}

/**
 * Puts a judged run beside a judged reference.
 * @throws InputError when they have no text or no value in common.
 */
export function besideReference(target: JudgedRun, reference: JudgedRun): ReferenceReport {
  const [ours, theirs] = [target, reference].map(({ investigation }) => investigation.observations);
  const rows = new AlignedRows(ours!.rows, theirs!.rows);
  const [here, there] = [target.verdict.recording.path, reference.verdict.recording.path];
  if (rows.count === 0)
    throw new InputError(
      `${there}: expected a run of the tokens of ${here}, found no sequence that begins with the same token`,
    );
  const [departures, others] = [new Departures(target), new Departures(reference)];
  const shared = sharedFaults(target, reference, rows);
  const parting = findParting(departures, others, shared, rows);
  const values = threeWays(departures, others, rows, sharedUnits(target, reference, shared));
  if (values.length === 0)
    throw new InputError(`${there}: expected values that ${here} has too, found none in common for the same tokens`);
  const names = [target, reference].map(({ investigation }) => investigation.units().map(({ name }) => name));
  const only = (side: number) => names[side]!.filter((name) => !names[1 - side]!.includes(name));
  const notes: string[] = [];
  if (rows.fromInside)
    notes.push("tokens from before a recording are unknown: sequences are aligned from where both were recorded");
  const report = {
    recording: reference.verdict.recording,
    verdict: reference.verdict.verdict,
    causes: reference.verdict.causes,
    aligned: {
      rows: rows.count,
      of: ours!.rows.stepOf.filter((step) => step >= 0).length,
      values: values.length,
      onlyInTarget: only(0),
      onlyInReference: only(1),
      differences: differences(target.investigation, reference.investigation),
      forks: rows.forks,
    },
    parting,
    shared,
    firstDifference: values.find(({ equal }) => equal < 1)?.unit ?? null,
    values,
    fromTokens: againstTokens(target, reference, rows, notes),
    notes,
  };
  return { summary: conclude(report, target.verdict), ...report };
}

/** Units that depart in both runs by faults that both have. */
function sharedUnits(target: JudgedRun, reference: JudgedRun, shared: readonly SharedFault[]): Set<string> {
  const units = new Set(shared.flatMap((fault) => fault.units));
  for (const fault of shared) {
    const ours = fault.target === null ? [] : target.verdict.causes[fault.target]!.units;
    const theirs = new Set(fault.reference === null ? [] : reference.verdict.causes[fault.reference]!.units);
    for (const unit of ours) if (theirs.has(unit)) units.add(unit);
  }
  return units;
}
