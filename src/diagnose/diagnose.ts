import type { InvestigationSource } from "./check/open-investigation.js";
import { judgedByRank } from "./check/rank-views.js";
import { explain } from "./explain/explain.js";
import type { Detokenize } from "./prove/free-run.js";
import { prove } from "./prove/prove.js";
import { examine } from "./records/examine.js";
import { tell } from "./tell/tell.js";
import type { Verdict } from "./tell/verdict.js";
import { checkRecording } from "./threads/check-recording.js";
import { mergeParts } from "./threads/merge-parts.js";
import type { Checked } from "./threads/suggested-mask.js";

export interface DiagnoseOptions extends Pick<InvestigationSource, "target" | "model" | "names"> {
  /** Called with what is being done and how far it is, 0 to 1. */
  readonly progress?: (stage: string, done: number) => void;
  /** Turns token ids into text for the chain and the repair. */
  readonly detokenize?: Detokenize;
  /** Leave out the run from the tokens: causes are proven unit by unit only. */
  readonly quick?: boolean;
}

/**
 * Says which op, or which seam between two ops, computed something the model does not mean, why, and proves it.
 * @throws InputError when the recording or the model cannot be read.
 */
export async function diagnose(options: DiagnoseOptions): Promise<Verdict> {
  const { target, model, names, progress = () => {} } = options;
  return judge(await checkRecording({ target, model, names }, (done) => progress("checking units", done)), options);
}

/**
 * The verdict that `diagnose` gives, from parts that `checkShare` wrote of the same recording.
 * @throws InputError when the parts are not all there, or of another recording.
 */
export async function merge(parts: readonly string[], options: DiagnoseOptions): Promise<Verdict> {
  const { target, model, progress = () => {} } = options;
  return judge(await mergeParts(parts, { target, model }, (done) => progress("checking units", done)), options);
}

/** All that follows on the checks of the units. */
async function judge(checked: Checked & { note?: string }, options: DiagnoseOptions): Promise<Verdict> {
  const { progress = () => {}, detokenize = null, quick = false } = options;
  const { investigation, note } = checked;
  try {
    const checks = judgedByRank(investigation, checked.checks);
    const hidden = checked.notVisible();
    progress("checking metadata and seams", 0);
    const failing = checks.filter((check) => check.excess > 1);
    const records = examine(investigation, failing);
    const explained = explain(investigation, checks, records, (done) => progress("explaining findings", done));
    progress("proving", 0);
    const { needed, proof } = prove(investigation, checks, explained.causes, { detokenize, quick });
    progress("ruling out suspects", 0.5);
    const notVisible = await hidden;
    return tell({ ...explained, investigation, checks, records, needed, proof, notVisible, note, detokenize });
  } finally {
    checked.close();
  }
}
