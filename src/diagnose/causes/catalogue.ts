import { accumulatorCauses, accumulatorSearches } from "./accumulator.js";
import { appendSearches, cacheCauses } from "./append.js";
import { attentionDropoutSearches } from "./attention-dropout.js";
import { attentionOperandCauses, attentionOperandSearches } from "./attention-operands.js";
import { bitCauses, bitSearches } from "./bits.js";
import { cacheScaleSearches } from "./cache-scale.js";
import type { CauseEntry } from "./cause-entry.js";
import { clampCauses, clampSearches } from "./clamp.js";
import { constantCauses, constantSearches } from "./constant.js";
import { coverageCauses, coverageSearches } from "./coverage.js";
import type { DirectCause } from "./direct-cause.js";
import { dropoutCauses, dropoutSearches } from "./dropout.js";
import { elementCauses, elementSearches } from "./element.js";
import { embeddingCauses, embeddingSearches } from "./embedding.js";
import { expertCauses, expertSearches } from "./experts.js";
import { gainCauses, gainSearches } from "./fitted.js";
import { gatedBranchCauses, gatedBranchSearches } from "./gated-branch.js";
import { headMapCauses, headMapSearches } from "./head-map.js";
import { headCauses, headSearches } from "./heads.js";
import type { Hypothesis } from "./hypothesis.js";
import { keyCauses, keySearches } from "./keys.js";
import { layerCauses, layerSearches } from "./layers.js";
import { layoutCauses, layoutSearches } from "./layout.js";
import { biasCauses, biasSearches } from "./linear.js";
import { logitsCauses, logitsSearches } from "./logits.js";
import { lowRankCauses, lowRankSearches } from "./low-rank.js";
import { maskCauses, maskSearches } from "./mask.js";
import { mergeCauses, mergeSearches } from "./merge.js";
import { misreadSearches } from "./misread.js";
import { cacheScaleCauses } from "./mistaken-scale.js";
import { mlpCauses, mlpSearches } from "./mlp.js";
import { multiplierCauses, multiplierSearches } from "./multiplier.js";
import { normCauses, normSearches } from "./norm.js";
import { fittedNormSearches } from "./norm-fitted.js";
import { normOrderCauses, normOrderSearches } from "./norm-order.js";
import { normPlacementCauses, normPlacementSearches } from "./norm-placement.js";
import { normWeightCauses, normWeightSearches } from "./norm-weight.js";
import { operandCauses, operandSearches } from "./operand.js";
import { operandScaleCauses, operandScaleSearches } from "./operand-scale.js";
import { otherValueCauses, otherValueSearches } from "./other-value.js";
import { packingCauses, packingSearches } from "./packing.js";
import { paddingCauses, paddingSearches } from "./padding.js";
import type { Proposal, Search } from "./proposal.js";
import { quantisedActivationCauses, quantisedActivationSearches } from "./quantised-activation.js";
import { quantisedCacheCauses, quantisedCacheSearches } from "./quantised-cache.js";
import { probabilityCauses, probabilitySearches } from "./quantised-probabilities.js";
import { quantisedWeightCauses, quantisedWeightSearches } from "./quantised-weight.js";
import { isHiddenTerm, rankCauses, rankSearches } from "./ranks.js";
import { recordCauses } from "./record-causes.js";
import { reductionCauses, reductionSearches } from "./reduction.js";
import { relabellingCauses, relabellingSearches } from "./relabelling.js";
import { residualCauses, residualSearches } from "./residual.js";
import { ropeCauses, ropeSearches } from "./rope.js";
import { ropeFrequencyCauses, ropeFrequencySearches } from "./rope-frequencies.js";
import { ropeLayerCauses, ropeLayerSearches } from "./rope-layers.js";
import { positionCauses, positionSearches } from "./rope-positions.js";
import { ropeWeightCauses, ropeWeightSearches } from "./rope-weight.js";
import { rotationSearches } from "./rotation.js";
import { routerCauses, routerSearches } from "./router.js";
import { scoreCauses, scoreSearches } from "./score.js";
import { sharedExpertCauses, sharedExpertSearches } from "./shared-expert.js";
import { unseenSearches } from "./unseen.js";
import { unseenElementSearches } from "./unseen-element.js";
import { weightFormatCauses, weightFormatSearches } from "./weight-format.js";
import { weightCauses, weightSearches } from "./weights.js";

const declared = {
  ...embeddingCauses,
  ...normCauses,
  ...normWeightCauses,
  ...normOrderCauses,
  ...normPlacementCauses,
  ...biasCauses,
  ...weightCauses,
  ...packingCauses,
  ...ropeWeightCauses,
  ...operandCauses,
  ...reductionCauses,
  ...accumulatorCauses,
  ...ropeCauses,
  ...ropeFrequencyCauses,
  ...ropeLayerCauses,
  ...positionCauses,
  ...scoreCauses,
  ...maskCauses,
  ...keyCauses,
  ...mergeCauses,
  ...headMapCauses,
  ...attentionOperandCauses,
  ...paddingCauses,
  ...cacheCauses,
  ...cacheScaleCauses,
  ...residualCauses,
  ...multiplierCauses,
  ...mlpCauses,
  ...gatedBranchCauses,
  ...routerCauses,
  ...expertCauses,
  ...sharedExpertCauses,
  ...rankCauses,
  ...layerCauses,
  ...logitsCauses,
  ...weightFormatCauses,
  ...operandScaleCauses,
  ...quantisedWeightCauses,
  ...quantisedActivationCauses,
  ...quantisedCacheCauses,
  ...probabilityCauses,
  ...headCauses,
  ...layoutCauses,
  ...bitCauses,
  ...relabellingCauses,
  ...otherValueCauses,
  ...coverageCauses,
  ...clampCauses,
  ...dropoutCauses,
  ...gainCauses,
  ...constantCauses,
  ...lowRankCauses,
  ...elementCauses,
  ...recordCauses,
};

/** Id of a cause: whatever else is said of it, this names it. */
export type CauseId = keyof typeof declared;

/** Every cause by its id, in the order of a forward pass; what only records show comes last. */
export const catalogue: Readonly<Record<CauseId, CauseEntry<CauseId>>> = declared;

/** Rewrites with a name, then parts nobody wrote, then transforms fitted to the recording: the order decides between equals. */
const searches: readonly Search[] = [
  ...multiplierSearches,
  ...normSearches,
  ...normWeightSearches,
  ...normOrderSearches,
  ...normPlacementSearches,
  ...fittedNormSearches,
  ...ropeLayerSearches,
  ...ropeSearches,
  ...ropeFrequencySearches,
  ...positionSearches,
  ...rotationSearches,
  ...biasSearches,
  ...weightSearches,
  ...packingSearches,
  ...ropeWeightSearches,
  ...bitSearches,
  ...accumulatorSearches,
  ...operandSearches,
  ...headSearches,
  ...reductionSearches,
  ...scoreSearches,
  ...maskSearches,
  ...keySearches,
  ...mergeSearches,
  ...probabilitySearches,
  ...headMapSearches,
  ...attentionOperandSearches,
  ...residualSearches,
  ...mlpSearches,
  ...gatedBranchSearches,
  ...routerSearches,
  ...expertSearches,
  ...sharedExpertSearches,
  ...rankSearches,
  ...clampSearches,
  ...dropoutSearches,
  ...attentionDropoutSearches,
  ...embeddingSearches,
  ...logitsSearches,
  ...layerSearches,
  ...paddingSearches,
  ...appendSearches,
  ...cacheScaleSearches,
  ...weightFormatSearches,
  ...operandScaleSearches,
  ...quantisedWeightSearches,
  ...quantisedActivationSearches,
  ...quantisedCacheSearches,
  ...layoutSearches,
  ...misreadSearches,
  ...relabellingSearches,
  ...otherValueSearches,
  ...unseenSearches,
  ...unseenElementSearches,
  ...coverageSearches,
  ...constantSearches,
  ...gainSearches,
  ...lowRankSearches,
  ...elementSearches,
];

/** What a cause that records show by themselves says of its class. */
export function classed(cause: CauseId): Pick<DirectCause, "cause" | "kind" | "transform"> {
  const { kind, transform } = catalogue[cause];
  return { cause, kind, transform };
}

/** The searches that may propose a cause; none for what only records show. */
const searchesFor: ReadonlyMap<CauseId, readonly Search[]> = new Map(
  (Object.keys(catalogue) as CauseId[]).map((id) => [id, searches.filter(({ causes }) => causes.includes(id))]),
);

/** Whether a cause is found by rewriting the spec. */
export function hasRewrites(id: CauseId): boolean {
  return searchesFor.get(id)!.length > 0;
}

/** Whether a cause may sit at a site. */
export function appliesTo(id: CauseId, proposal: Proposal): boolean {
  return searchesFor.get(id)!.some((search) => search.appliesTo(proposal));
}

/** Ids of the causes that may sit at a site. */
export function causesAt(proposal: Proposal): CauseId[] {
  return (Object.keys(catalogue) as CauseId[]).filter((id) => appliesTo(id, proposal));
}

/** Every rewrite of a site that would mean one of these causes; of any cause unless some are asked for. */
export function propose(proposal: Proposal, causes?: ReadonlySet<CauseId>): Hypothesis[] {
  if (!causes) return among(coarseAt(proposal), proposal);
  const asked = searches.filter((search) => search.causes.some((id) => causes.has(id)));
  return among(asked, proposal).filter(({ cause }) => causes.has(cause));
}

/** The rewrites of a site that are what they are whatever was recorded: all, those that change much, or the others. */
export function proposeNamed(proposal: Proposal, part?: "large" | "other"): Hypothesis[] {
  return among(namedAt(proposal, part), proposal);
}

function namedAt(proposal: Proposal, part: "large" | "other" | undefined): Search[] {
  return coarseAt(proposal).filter(
    ({ stage }) => stage !== "fitted" && (!part || (stage === "large") === (part === "large")),
  );
}

/** The same without those of which a number is chosen or fitted by what was recorded. */
export function proposeFixed(proposal: Proposal, part?: "large" | "other"): Hypothesis[] {
  const chosen = namedAt(proposal, part).filter(({ fits }) => !fits);
  return among(chosen, proposal).filter(({ fitted }) => fitted === 0);
}

/** The rewrites of a site that change little, named formats all: inside a span of many ops they are asked for by themselves. */
export function proposeFine(proposal: Proposal): Hypothesis[] {
  return among(
    searches.filter(({ stage }) => stage === "fine"),
    proposal,
  );
}

/** All searches where bits tell small changes apart, else all but the fine ones. */
function coarseAt({ investigation, finding }: Proposal): readonly Search[] {
  return investigation.hasBits(finding.node.name) ? searches : searches.filter(({ stage }) => stage !== "fine");
}

/** The rewrites of a site whose numbers are taken from the finding's elements. */
export function proposeFitted(proposal: Proposal): Hypothesis[] {
  return among(
    searches.filter(({ stage }) => stage === "fitted"),
    proposal,
  );
}

function among(chosen: readonly Search[], proposal: Proposal): Hypothesis[] {
  const possible = isHiddenTerm(proposal) ? chosen.filter((search) => rankSearches.includes(search)) : chosen;
  return possible.flatMap((search) => (search.appliesTo(proposal) ? search.rewrites(proposal) : []));
}
