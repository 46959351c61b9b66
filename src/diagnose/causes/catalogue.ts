import { appendCauses } from "./append.js";
import { attentionCauses } from "./attention.js";
import { cacheScaleCauses } from "./cache-scale.js";
import { clampCauses } from "./clamp.js";
import { additiveConstant } from "./constant.js";
import { coverageCauses } from "./coverage.js";
import { dropoutCauses } from "./dropout.js";
import { strayElements } from "./element.js";
import { endpointCauses } from "./endpoints.js";
import { fittedCauses } from "./fitted.js";
import type { Hypothesis } from "./hypothesis.js";
import { layerCauses } from "./layers.js";
import { layoutCauses } from "./layout.js";
import { linearCauses } from "./linear.js";
import { lowRankCauses } from "./low-rank.js";
import { misreadCauses } from "./misread.js";
import { mlpCauses } from "./mlp.js";
import { normCauses } from "./norm.js";
import { otherValueCauses } from "./other-value.js";
import { paddingCauses } from "./padding.js";
import type { CauseFamily, Proposal } from "./proposal.js";
import { quantisedActivationCauses } from "./quantised-activation.js";
import { quantisedCacheCauses } from "./quantised-cache.js";
import { quantisedWeightCauses } from "./quantised-weight.js";
import { relabellingCauses } from "./relabelling.js";
import { residualCauses } from "./residual.js";
import { ropeCauses } from "./rope.js";
import { unseenCauses } from "./unseen.js";
import { weightFormatCauses } from "./weight-format.js";

/** Rewrites with a name, then parts nobody wrote, then transforms fitted to the recording. */
const families: readonly CauseFamily[] = [
  normCauses,
  ropeCauses,
  linearCauses,
  attentionCauses,
  residualCauses,
  mlpCauses,
  clampCauses,
  dropoutCauses,
  endpointCauses,
  layerCauses,
  paddingCauses,
  appendCauses,
  cacheScaleCauses,
  weightFormatCauses,
  quantisedWeightCauses,
  quantisedActivationCauses,
  quantisedCacheCauses,
  layoutCauses,
  misreadCauses,
  relabellingCauses,
  otherValueCauses,
  unseenCauses,
  coverageCauses,
  additiveConstant,
  fittedCauses,
  lowRankCauses,
  strayElements,
];

/** Families that look for their numbers in the finding's elements. */
const fitting: ReadonlySet<CauseFamily> = new Set([
  dropoutCauses,
  relabellingCauses,
  coverageCauses,
  additiveConstant,
  fittedCauses,
  lowRankCauses,
  strayElements,
]);

/** Families whose causes change much: where a unit spans many ops, small changes are not told apart, and these come first. */
const plain: ReadonlySet<CauseFamily> = new Set([
  layerCauses,
  residualCauses,
  mlpCauses,
  normCauses,
  attentionCauses,
  ropeCauses,
]);

/** The rewrites of `site` that are what they are whatever was recorded: all, those people write by mistake most, or the others. */
export function proposeNamed(proposal: Proposal, part?: "plain" | "other"): Hypothesis[] {
  return families
    .filter((family) => !fitting.has(family) && (!part || plain.has(family) === (part === "plain")))
    .flatMap((family) => family(proposal));
}

/** The rewrites of `site` whose numbers are taken from the finding's elements. */
export function proposeFitted(proposal: Proposal): Hypothesis[] {
  return families.filter((family) => fitting.has(family)).flatMap((family) => family(proposal));
}

/** Families that have proposed a cause: who asks for it again need not ask the others. */
const known = new Map<string, Set<CauseFamily>>();

/**
 * Every rewrite of `site` that the catalogue knows.
 * @param causes ids that are asked for; rewrites of others may be left out.
 */
export function propose(proposal: Proposal, causes?: ReadonlySet<string>): Hypothesis[] {
  const asked = causes && [...causes].map((cause) => known.get(cause));
  const chosen = asked?.every((of) => of !== undefined)
    ? families.filter((family) => asked.some((of) => of!.has(family)))
    : families;
  return chosen.flatMap((family) => {
    const proposed = family(proposal);
    for (const { cause } of proposed) {
      const of = known.get(cause);
      if (of) of.add(family);
      else known.set(cause, new Set([family]));
    }
    return proposed;
  });
}
