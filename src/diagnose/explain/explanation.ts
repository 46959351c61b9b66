import type { BitMatch } from "../bits/bits.js";
import type { Statistics } from "../bits/statistics.js";
import type { Hypothesis } from "../causes/hypothesis.js";

/** A hypothesis that explains a unit: by its bits, or where no recipe gives them, to within rounding. */
export interface Explanation {
  readonly hypothesis: Hypothesis;
  /** Over the held-out elements when something was fitted, else over the whole sample. */
  readonly statistics: Statistics;
  readonly excess: number;
  /** Root mean square of what it leaves, in units of the spec's own noise: a rewrite may bring noise of its own. */
  readonly left: number;
  /** Whether the recorded bits come out with it. */
  readonly matched: boolean;
  readonly bits: BitMatch | undefined;
}
