import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { AssembledCause } from "../explain/assemble.js";
import type { Explained } from "../explain/explain.js";
import type { NotVisible } from "../explain/visibility.js";
import type { Detokenize } from "../prove/free-run.js";
import type { Proof } from "../prove/proof.js";
import type { RecordReport } from "../records/examine.js";
import { audit } from "./audits.js";
import { decide, summarise } from "./decision.js";
import { findingsOf } from "./findings.js";
import { ruledOut } from "./suspects.js";
import { magnitudes, symptomChain } from "./symptom.js";
import { coverageOf, judgedUnits, settledRecipes, summaries, unchecked } from "./unit-summary.js";
import type { Verdict } from "./verdict.js";

/** What a verdict is told from: the results of the stages before it. */
export interface Told extends Pick<Explained, "tried" | "unreached"> {
  readonly investigation: Investigation;
  readonly checks: readonly UnitCheck[];
  readonly records: RecordReport;
  /** The causes that are needed, and the proof that they are. */
  readonly needed: readonly AssembledCause[];
  readonly proof: Proof;
  readonly notVisible: readonly NotVisible[];
  /** Something to add to the summary. */
  readonly note: string | undefined;
  readonly detokenize: Detokenize;
}

/** Last: the verdict in words and numbers. */
export function tell({ investigation, checks, records, tried, unreached, needed, proof, ...told }: Told): Verdict {
  const causes = needed.map(({ cause }) => cause);
  const failing = checks.filter((check) => check.excess > 1);
  const subtle = unreached.filter(({ node }) => needed.some(({ explains }) => explains.has(node.name)));
  const findings = findingsOf(investigation, [...failing, ...subtle], needed, tried);
  const verdict = decide(causes, findings, checks);
  const numbers = magnitudes(checks);
  const { capture, config, observations, precision } = investigation;
  return {
    verdict,
    summary: [summarise(verdict, causes, findings, checks), told.note].filter(Boolean).join(" "),
    causes,
    findings,
    proof,
    audits: audit({ ...records, investigation, checks, causes }),
    chain: verdict === "clean" ? [] : symptomChain(investigation, numbers, told.detokenize),
    ruledOut: ruledOut(investigation, checks, numbers),
    notVisible: told.notVisible,
    unchecked: unchecked(investigation, checks),
    judged: judgedUnits(checks),
    units: summaries(checks),
    recipes: settledRecipes(investigation, checks),
    coverage: coverageOf(checks),
    recording: {
      path: capture.path,
      model: config.modelType,
      steps: capture.steps.length,
      rows: observations.rows.count,
      sequences: new Set(observations.rows.seqId).size,
      values: capture.records.length,
      dtype: precision.store,
      compute: precision.compute,
    },
  };
}
