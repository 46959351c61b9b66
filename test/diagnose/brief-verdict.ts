import type { RunPath } from "../../src/capture/ranks.js";
import { withJudged } from "../../src/diagnose/street.js";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";

/**
 * The verdict on a recording, without the run from its tokens and without what it could not have shown: causes, findings
 * and their proof unit by unit are those of `diagnose`.
 */
export function briefVerdict(target: RunPath, model: string): Promise<Verdict> {
  return withJudged({ target, model }, ({ verdict }) => verdict);
}
