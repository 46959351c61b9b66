import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { AssembledCause } from "../explain/assemble.js";
import type { Verdict } from "../tell/verdict.js";

/** A recording with all that was found out about it by itself. */
export interface JudgedRun {
  readonly investigation: Investigation;
  readonly checks: readonly UnitCheck[];
  /** Those of the verdict, in its order, with what proves them. */
  readonly causes: readonly AssembledCause[];
  readonly verdict: Verdict;
}
