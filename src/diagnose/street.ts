import type { RunPath } from "../capture/ranks.js";
import type { InvestigationSource } from "./check/open-investigation.js";
import { judgedByRank } from "./check/rank-views.js";
import { explain } from "./explain/explain.js";
import type { Detokenize } from "./prove/free-run.js";
import { prove } from "./prove/prove.js";
import { examine } from "./records/examine.js";
import type { JudgedRun } from "./reference/judged-run.js";
import type { Diagnosis } from "./reference/reference-report.js";
import { tell } from "./tell/tell.js";
import { checkRecording } from "./threads/check-recording.js";
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
  /** Called with what was judged while its files are open, which they are until it is done: for what shows elements. */
  readonly whileOpen?: ((judged: OpenRuns) => void | Promise<void>) | undefined;
}

/** A diagnosis beside the runs it speaks of, their files open. */
export interface OpenRuns {
  readonly diagnosis: Diagnosis;
  readonly run: JudgedRun;
  readonly reference?: JudgedRun;
}

/** The street: what follows on the checks of the units, stage by stage. */
export async function judge(
  checked: Checked & { note?: string },
  options: DiagnoseOptions,
  brief = false,
): Promise<JudgedRun> {
  const { progress = () => {}, detokenize = null, quick = false } = options;
  const { investigation, note } = checked;
  const checks = judgedByRank(investigation, checked.checks);
  const hidden = brief ? async () => [] : checked.hiddenCauses();
  progress("checking metadata and seams", 0);
  const failing = checks.filter((check) => check.excess > 1);
  const records = examine(investigation, failing);
  const explained = explain(investigation, checks, records, (done) => progress("explaining findings", done));
  progress("proving", 0);
  const { needed, proof } = prove(investigation, checks, explained.causes, { detokenize, quick: quick || brief });
  progress("ruling out suspects", 0.5);
  const notVisible = await hidden();
  const verdict = tell({ ...explained, investigation, checks, records, needed, proof, notVisible, note, detokenize });
  return { investigation, checks, causes: needed, verdict };
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

/** Judges a recording and hands it on while its files are open. */
export async function opened<T>(
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
