import type { Hypothesis } from "../../diagnose/causes/hypothesis.js";
import { combine } from "../../diagnose/explain/combine.js";
import type { Patch } from "../../engine/program/patch.js";

/**
 * The causes of a verdict as one patch: the rewrites by which the diagnosis proves them unit by unit and from the tokens,
 * put into a running engine. It then does what the recorded one did, or they are not all there is.
 */
export function causesAsPatch(causes: readonly { readonly hypotheses: readonly Hypothesis[] }[]): Patch {
  return {
    title: "the causes found",
    rewrite: () => ({ nodes: combine(causes.flatMap(({ hypotheses }) => hypotheses)) }),
  };
}
