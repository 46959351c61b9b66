import { besideReference, type Diagnosis } from "./reference/reference-report.js";
import { type DiagnoseOptions, judge, opened, withJudged } from "./street.js";
import type { Verdict } from "./tell/verdict.js";
import { mergeParts } from "./threads/merge-parts.js";

export type { DiagnoseOptions } from "./street.js";

/**
 * Says which op, or which seam between two ops, computed something the model does not mean, why, and proves it; with a
 * reference also where the two runs part, whether both have the same fault, and which of them is the wrong one.
 * @throws InputError when a recording or the model cannot be read, or the reference is of other text.
 */
export async function diagnose(options: DiagnoseOptions): Promise<Diagnosis> {
  const { reference, progress = () => {} } = options;
  return opened(options, false, async (run) => {
    if (reference === undefined) {
      await options.whileOpen?.({ diagnosis: run.verdict, run });
      return run.verdict;
    }
    return withJudged({ ...options, target: reference, names: undefined }, async (beside) => {
      progress("comparing with the reference", 0);
      const diagnosis = { ...run.verdict, reference: besideReference(run, beside) };
      await options.whileOpen?.({ diagnosis, run, reference: beside });
      return diagnosis;
    });
  });
}

/**
 * The verdict that `diagnose` gives, from parts that `checkShare` wrote of the same recording.
 * @throws InputError when the parts are not all there, or of another recording.
 */
export async function merge(parts: readonly string[], options: DiagnoseOptions): Promise<Verdict> {
  const { target, model, progress = () => {} } = options;
  const checked = await mergeParts(parts, { target, model }, (done) => progress("checking units", done));
  try {
    const judged = await judge(checked, options);
    await options.whileOpen?.({ diagnosis: judged.verdict, run: judged });
    return judged.verdict;
  } finally {
    checked.close();
  }
}
