import { allCauses } from "./all-causes.js";
import { audit } from "./audits.js";
import { checkAll } from "./check/check-all.js";
import { decide, summarise } from "./decision.js";
import { Deadline } from "./explain/deadline.js";
import { Explainer } from "./explain/explainer.js";
import { findingsOf } from "./findings.js";
import type { Investigation, UnitCheck } from "./investigation.js";
import { checkMetadata } from "./metadata.js";
import { createdNonFinite } from "./non-finite.js";
import { overwrittenRecords } from "./observer.js";
import { type InvestigationSource, openInvestigation } from "./open-investigation.js";
import { checkParameters } from "./parameters.js";
import type { Detokenize } from "./prove/free-run.js";
import { type ProofOptions, prove } from "./prove/prove.js";
import { checkSeams } from "./seams.js";
import { underSuggestedMask } from "./suggested-mask.js";
import { ruledOut } from "./suspects.js";
import { magnitudes, symptomChain } from "./symptom.js";
import { coverageOf, settledRecipes, summaries, unchecked } from "./unit-summary.js";
import type { Verdict } from "./verdict.js";
import { sensitivity } from "./visibility.js";

export interface DiagnoseOptions extends Pick<InvestigationSource, "target" | "model"> {
  /** Called with what is being done and how far it is, 0 to 1. */
  readonly progress?: (stage: string, done: number) => void;
  /** Turns token ids into text for the chain and the repair. */
  readonly detokenize?: Detokenize;
  /** Leave out the run from the tokens: causes are proven unit by unit only. */
  readonly quick?: boolean;
}

/** Time to look for what the recording could not have shown, in milliseconds. */
const sensitivitySearch = 4000;

/**
 * Says which op, or which seam between two ops, computed something the model does not mean, why, and proves it.
 * @throws InputError when the recording or the model cannot be read.
 */
export async function diagnose(options: DiagnoseOptions): Promise<Verdict> {
  const { target, model, progress = () => {}, detokenize = null, quick = false } = options;
  const checkedAs = async (source: InvestigationSource) => {
    const { investigation, close } = openInvestigation(source);
    try {
      const checks = await checkAll(investigation, source, (done) => progress("checking units", done));
      return { investigation, checks, close };
    } catch (error) {
      close();
      throw error;
    }
  };
  const asRecorded = await checkedAs({ target, model });
  const { investigation, checks, close, note } = await underSuggestedMask(asRecorded, { target, model }, checkedAs);
  try {
    return verdictOf(investigation, checks, note, progress, { detokenize, quick });
  } finally {
    close();
  }
}

function verdictOf(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  note: string | undefined,
  progress: NonNullable<DiagnoseOptions["progress"]>,
  proofOptions: ProofOptions,
): Verdict {
  progress("checking metadata and seams", 0);
  const metadata = checkMetadata(investigation);
  const seams = checkSeams(investigation);
  const parameters = checkParameters(investigation);
  const failing = checks.filter((check) => check.excess > 1);
  const { observed, rest } = overwrittenRecords(investigation, failing);
  // Units within rounding whose bits nobody gives back may still hold a fault too small to stand out: only a cause that
  // gives all their bits counts.
  const unreached = checks.filter((check) => check.excess <= 1 && !check.matched && check.bits !== undefined);
  const explainer = new Explainer(investigation);
  const tried = explainer.explainAll([...rest, ...unreached], (done) => progress("explaining findings", done));
  const explained = tried.filter(({ check, explanations }) => check.excess > 1 || explanations.length > 0);
  const unexplained = explained.filter(({ explanations }) => explanations.length === 0).map(({ check }) => check);
  progress("proving", 0);
  const direct = [
    ...metadata.causes,
    ...seams.causes,
    ...parameters.causes,
    ...observed,
    ...createdNonFinite(investigation, unexplained),
  ];
  const assembled = allCauses(investigation, checks, explained, direct);
  const { needed, proof } = prove(investigation, checks, assembled, proofOptions);
  const causes = needed.map(({ cause }) => cause);
  const subtle = unreached.filter(({ node }) => needed.some(({ explains }) => explains.has(node.name)));
  const findings = findingsOf(investigation, [...failing, ...subtle], needed, tried);
  const verdict = decide(causes, findings, checks);
  progress("ruling out suspects", 0.5);
  const numbers = magnitudes(checks);
  const { capture, config, observations, precision } = investigation;
  return {
    verdict,
    summary: [summarise(verdict, causes, findings, checks), note].filter(Boolean).join(" "),
    causes,
    findings,
    proof,
    audits: audit({ investigation, checks, causes, seams, metadata }),
    chain: verdict === "clean" ? [] : symptomChain(investigation, numbers, proofOptions.detokenize),
    ruledOut: ruledOut(investigation, checks, numbers),
    notVisible: sensitivity(investigation, checks, new Deadline(sensitivitySearch)),
    unchecked: unchecked(investigation, checks),
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
