import type { GraphNode } from "../../spec/graph.js";
import type { Misreading } from "../../tensor/quantised-parameter.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { amongRanks, inEveryTerm, unrecordedTerms } from "./rank-terms.js";
import { readingWeight } from "./read-weight.js";
import { storeType } from "./store-type.js";
import { replaced } from "./transform.js";

/** The bytes of a weight in a narrow format taken for other numbers. */
export const weightFormatCauses = {
  "weight-scale-missed": {
    kind: "parameter",
    transform: "T9",
    legend: "The numbers of a quantised weight are not multiplied by one of their scales.",
    hiddenBy: "scales of 1",
    confusedWith: ["weight-scale-inverted", "scaled"],
  },
  "weight-scale-inverted": {
    kind: "parameter",
    transform: "T9",
    legend: "The numbers of a quantised weight are divided by a scale instead of multiplied, or the reverse.",
    hiddenBy: "scales of 1",
    confusedWith: ["weight-scale-missed", "scaled"],
  },
  "weight-scale-transposed": {
    kind: "parameter",
    transform: "T1",
    legend: "The scales of a quantised weight are read as if they lay along the other axis.",
    hiddenBy: "a scale per row or per tensor; equal scales",
    confusedWith: ["weight-scale-shifted"],
  },
  "weight-scale-shifted": {
    kind: "parameter",
    transform: "T3",
    legend:
      "Every group of a quantised weight takes the scale or the zero point of the next one, or of the one before.",
    hiddenBy: "equal scales",
    confusedWith: ["weight-scale-transposed", "weight-group-order"],
  },
  "weight-zero-point-missed": {
    kind: "parameter",
    transform: "T9",
    legend: "The zero points of a quantised weight are not taken away.",
    hiddenBy: "zero points of 0; operands that sum to 0 over every group",
    confusedWith: ["weight-zero-point-shifted"],
  },
  "weight-zero-point-shifted": {
    kind: "parameter",
    transform: "T9",
    legend:
      "The zero points of a quantised weight are one level too high or too low: two conventions of what is stored.",
    hiddenBy: "operands that sum to 0 over every group",
    confusedWith: ["weight-zero-point-missed"],
    report: ["vllm-project/vllm#26343", "zero points of two conventions were one apart"],
  },
  "weight-packing-order": {
    kind: "parameter",
    transform: "T1",
    legend: "The numbers packed into a word are taken in another order than they were put there.",
    hiddenBy: "equal numbers in every word",
    confusedWith: ["weight-halves-exchanged"],
  },
  "weight-halves-exchanged": {
    kind: "parameter",
    transform: "T1",
    legend: "The two 4-bit numbers of every byte are exchanged.",
    hiddenBy: "equal halves",
    confusedWith: ["weight-packing-order"],
  },
  "weight-group-order": {
    kind: "parameter",
    transform: "T3",
    legend: "Groups of inputs are taken side by side although the checkpoint gives each input a group of its own.",
    hiddenBy: "groups that do lie side by side",
    confusedWith: ["weight-scale-shifted"],
  },
} as const satisfies CauseEntries;

const ids = Object.keys(weightFormatCauses) as (keyof typeof weightFormatCauses)[];
const hypothesis = hypothesesOf(weightFormatCauses);

export const weightFormatSearches: readonly Search[] = [
  {
    causes: ids,
    stage: "named",
    appliesTo: (proposal) =>
      ofKind("linear", "embedding")(proposal) && misreadingsOf(proposal, proposal.site).length > 0,
    rewrites: (proposal) =>
      misreadWeights(proposal, proposal.site, (change) => [replaced(proposal.site, change(proposal.site))]),
  },
];

/** The same where the terms of a sum over ranks were not recorded: what is wrong is so on every rank. */
export const summedWeightSearch: Search = {
  causes: ids,
  stage: "named",
  appliesTo: amongRanks("all-reduce"),
  rewrites(proposal) {
    const [first] = unrecordedTerms(proposal) ?? [];
    return first ? misreadWeights(proposal, first.term, inEveryTerm(proposal)) : [];
  },
};

/** What the declaration of the weight's format says can happen to it. */
function misreadingsOf({ investigation }: Proposal, { op }: GraphNode): readonly Misreading[] {
  const { weight } = op.attributes;
  return (typeof weight === "string" && investigation.parameters.quantised?.(weight)?.misreadings) || [];
}

/** @param replacing the nodes that replace those of the spec where the product's op is changed. */
function misreadWeights(
  proposal: Proposal,
  product: GraphNode,
  replacing: (change: (node: GraphNode) => Partial<GraphNode>) => GraphNode[],
): Hypothesis[] {
  const { site, investigation } = proposal;
  const weight = product.op.attributes.weight as string;
  const store = storeType(investigation);
  return misreadingsOf(proposal, product).map((misreading) => {
    const cause = ids.find((id) => id === misreading.cause);
    if (!cause) throw new Error(`a weight format misreads as "${misreading.cause}", which no cause is called`);
    const { parameters, statement } = misreading;
    const wrong = ({ op }: GraphNode) => ({
      op: readingWeight(op, weight, statement, (right) => right.misread(misreading), store),
    });
    return hypothesis(cause, site, replacing(wrong), { parameters, statement });
  });
}
