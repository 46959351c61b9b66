import { looksPadded } from "../../capture/looks-padded.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { InvestigationSource } from "../check/open-investigation.js";
import type { CheckedUnits } from "./check-all.js";

/** An investigation whose units are checked. */
export interface Checked extends CheckedUnits {
  readonly investigation: Investigation;
  close(): void;
}

/**
 * A recording of a padded batch that lacks its mask shows rows that attend over less than all keys. Where attention fails
 * without a mask and follows under the one that the tokens suggest, the batch was padded, and nobody is accused of it.
 * @returns what to judge, and a sentence that says so.
 */
export async function underSuggestedMask(
  asRecorded: Checked,
  source: InvestigationSource,
  checkedAs: (source: InvestigationSource) => Promise<Checked>,
): Promise<Checked & { note?: string }> {
  const before = failingAttention(asRecorded.checks);
  if (before === 0) return asRecorded;
  const { capture, config } = asRecorded.investigation;
  const suggestion = looksPadded(capture, config);
  if (!suggestion) return asRecorded;
  const masked = await checkedAs({ ...source, mask: suggestion.mask });
  if (failingAttention(masked.checks) * 2 >= before) {
    masked.close();
    return asRecorded;
  }
  asRecorded.close();
  const { token, side, padded } = suggestion;
  const note = `The recording looks padded (token ${token} at the ${side} of ${padded} of ${capture.steps[0]!.seq_ids.length} sequences) and holds no attention_mask; it is judged as padded so, since attention follows only then: record attention_mask to be sure.`;
  return { ...masked, note };
}

function failingAttention(checks: readonly UnitCheck[]): number {
  return checks.filter(({ node, excess }) => node.op.kind === "attention" && excess > 1).length;
}
