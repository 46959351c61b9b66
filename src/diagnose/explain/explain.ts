import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { RecordReport } from "../records/examine.js";
import { createdNonFinite } from "../records/non-finite.js";
import { allCauses } from "./all-causes.js";
import type { AssembledCause } from "./assemble.js";
import { type ExplainedFinding, Explainer } from "./explainer.js";

/** Every cause that may be, before it is proven. */
export interface Explained {
  readonly causes: readonly AssembledCause[];
  /** Units that were tried, with what explains each. */
  readonly tried: readonly ExplainedFinding[];
  /** Units within rounding that were tried too. */
  readonly unreached: readonly UnitCheck[];
}

/** Third: what explains the units that fail, together with what the records say directly. */
export function explain(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  records: RecordReport,
  progress: (done: number) => void,
): Explained {
  // Units within rounding whose bits nobody gives back may still hold a fault too small to stand out: only a cause that
  // gives all their bits counts.
  const unreached = checks.filter((check) => check.excess <= 1 && !check.matched && check.bits !== undefined);
  const tried = new Explainer(investigation).explainAll([...records.rest, ...unreached], progress);
  const explained = tried.filter(({ check, explanations }) => check.excess > 1 || explanations.length > 0);
  const unexplained = explained.filter(({ explanations }) => explanations.length === 0).map(({ check }) => check);
  const direct = [...records.causes, ...createdNonFinite(investigation, unexplained)];
  return { causes: allCauses(investigation, checks, explained, direct), tried, unreached };
}
