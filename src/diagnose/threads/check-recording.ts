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
  const checkedAs = async (as: InvestigationSource) => {
    const { investigation, close } = openInvestigation(as);
    try {
      const checked = await checkAll(investigation, as, progress);
      const closeAll = () => {
        checked.end();
        close();
      };
      return { ...checked, investigation, close: closeAll };
    } catch (error) {
      close();
      throw error;
    }
  };
  return underSuggestedMask(await checkedAs(source), source, checkedAs);
}
