import type { RunPath } from "../capture/ranks.js";
import type { InvestigationSource } from "./check/open-investigation.js";
import { judgedByRank } from "./check/rank-views.js";
import { explain } from "./explain/explain.js";
import type { Detokenize } from "./prove/free-run.js";
import { prove } from "./prove/prove.js";
import { examine } from "./records/examine.js";
import type { JudgedRun } from "./reference/judged-run.js";
import { besideReference, type Diagnosis } from "./reference/reference-report.js";
import { tell } from "./tell/tell.js";
import type { Verdict } from "./tell/verdict.js";
import { checkRecording } from "./threads/check-recording.js";
import { mergeParts } from "./threads/merge-parts.js";
import type { Checked } from "./threads/suggested-mask.js";

export interface DiagnoseOptions extends Pick<InvestigationSource, "target" | "model" | "names"> {
  /** A run of the same text that is thought to be right, of the same model: the two are put beside each other. */
  readonly reference?: RunPath;
  /** Called with what is being done and how far it is, 0 to 1. */
  readonly progress?: (stage: string, done: number) => void;
  /** Turns token ids into text for the chain and the repair. */
  readonly detokenize?: Detokenize;
  /** Leave out the run from the tokens: causes are proven unit by unit only. */
  readonly quick?: boolean;
}

/**
 * Says which op, or which seam between two ops, computed something the model does not mean, why, and proves it; with a
 * reference also where the two runs part, whether both have the same fault, and which of them is the wrong one.
 * @throws InputError when a recording or the model cannot be read, or the reference is of other text.
 */
export async function diagnose(options: DiagnoseOptions): Promise<Diagnosis> {
  const { reference, progress = () => {} } = options;
  return opened(options, false, (judged) => {
    if (reference === undefined) return judged.verdict;
    return withJudged({ ...options, target: reference, names: undefined }, (beside) => {
      progress("comparing with the reference", 0);
      return { ...judged.verdict, reference: besideReference(judged, beside) };
    });
  });
}

/**
 * Judges a recording in brief, without the run from its tokens and what it could not have shown, and hands it on while its
 * files are open.
 * @throws InputError when the recording or the model cannot be read.
 */
export function withJudged<T>(
  options: Pick<DiagnoseOptions, "target" | "model" | "names" | "progress">,
  use: (run: JudgedRun) => T | Promise<T>,
): Promise<T> {
  return opened(options, true, use);
}

async function opened<T>(
  options: DiagnoseOptions,
  brief: boolean,
  use: (run: JudgedRun) => T | Promise<T>,
): Promise<T> {
  const { target, model, names, progress = () => {} } = options;
  const checked = await checkRecording({ target, model, names }, (done) => progress("checking units", done));
  try {
    return await use(await judge(checked, options, brief));
  } finally {
    checked.close();
  }
}

/**
 * The verdict that `diagnose` gives, from parts that `checkShare` wrote of the same recording.
 * @throws InputError when the parts are not all there, or of another recording.
 */
export async function merge(parts: readonly string[], options: DiagnoseOptions): Promise<Verdict> {
  const { target, model, progress = () => {} } = options;
  const checked = await mergeParts(parts, { target, model }, (done) => progress("checking units", done));
  try {
    return (await judge(checked, options)).verdict;
  } finally {
    checked.close();
  }
}

/** All that follows on the checks of the units. */
async function judge(
  checked: Checked & { note?: string },
  options: DiagnoseOptions,
  brief = false,
): Promise<JudgedRun> {
  const { progress = () => {}, detokenize = null, quick = false } = options;
  const { investigation, note } = checked;
  const checks = judgedByRank(investigation, checked.checks);
  const hidden = brief ? [] : checked.notVisible();
  progress("checking metadata and seams", 0);
  const failing = checks.filter((check) => check.excess > 1);
  const records = examine(investigation, failing);
  const explained = explain(investigation, checks, records, (done) => progress("explaining findings", done));
  progress("proving", 0);
  const { needed, proof } = prove(investigation, checks, explained.causes, { detokenize, quick: quick || brief });
  progress("ruling out suspects", 0.5);
  const notVisible = await hidden;
  const verdict = tell({ ...explained, investigation, checks, records, needed, proof, notVisible, note, detokenize });
  return { investigation, checks, causes: needed, verdict };
}
