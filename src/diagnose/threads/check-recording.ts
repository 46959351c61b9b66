import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { checkAll } from "./check-all.js";
import { type Checked, underSuggestedMask } from "./suggested-mask.js";

/**
 * First of all: opens a recording beside its model and checks every unit of it, under the mask that a padded batch
 * without one suggests.
 * @param progress share of the work that is done.
 * @throws InputError when the recording or the model cannot be read.
 */
export async function checkRecording(
  source: InvestigationSource,
  progress: (done: number) => void,
): Promise<Checked & { note?: string }> {
  return underSuggestedMask(await checkedAs(source, progress), source, (as) => checkedAs(as, progress));
}

/** The same without another mask. */
export async function checkedAs(source: InvestigationSource, progress: (done: number) => void): Promise<Checked> {
  const { investigation, close } = openInvestigation(source);
  try {
    const checked = await checkAll(investigation, source, progress);
    const closeAll = () => {
      checked.end();
      close();
    };
    return { ...checked, investigation, close: closeAll };
  } catch (error) {
    close();
    throw error;
  }
}
