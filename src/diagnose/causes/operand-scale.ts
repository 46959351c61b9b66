import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { amongRanks, inEveryTerm, unrecordedTerms } from "./rank-terms.js";
import { replaced } from "./transform.js";

/** Scales of operands that a kernel quantises as its config says. */
export const operandScaleCauses = {
  "operand-scale-missed": {
    kind: "kernel",
    transform: "T9",
    legend: "A product of a quantised weight and a quantised operand is not multiplied by the operand's scale.",
    hiddenBy: "scales of 1",
    confusedWith: ["weight-scale-missed", "scaled", "row-gain"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(operandScaleCauses);

export const operandScaleSearches: readonly Search[] = [
  {
    causes: ["operand-scale-missed"],
    stage: "named",
    appliesTo: ofKind("linear"),
    rewrites: (proposal) =>
      unscaled(proposal, proposal.site, (change) => [replaced(proposal.site, change(proposal.site))]),
  },
];

/** The same of every term of a sum over ranks, where none was recorded. */
export const summedOperandSearch: Search = {
  causes: ["operand-scale-missed"],
  stage: "named",
  appliesTo: amongRanks("all-reduce"),
  rewrites(proposal) {
    const [first] = unrecordedTerms(proposal) ?? [];
    return first ? unscaled(proposal, first.term, inEveryTerm(proposal)) : [];
  },
};

function unscaled(
  { site }: Proposal,
  product: GraphNode,
  replacing: (change: (node: GraphNode) => Partial<GraphNode>) => GraphNode[],
): Hypothesis[] {
  const { weightFormat } = product.op.attributes as unknown as LinearAttributes;
  const scaled = weightFormat?.operands.filter(({ quantisation }) => quantisation.scaling === "magnitude") ?? [];
  const numbers = scaled.map(({ quantisation }) => JSON.stringify(quantisation));
  // Merged projections may have had the same scale.
  const operands = scaled.filter((_, i) => numbers.indexOf(numbers[i]!) === i);
  return operands.map((operand) =>
    hypothesis(
      "operand-scale-missed",
      site,
      replacing(({ op }) => ({ op: withoutScale(op, operand.id) })),
      {
        parameters: { operand: operand.title },
        statement: `the product is not multiplied by the scale of its operand, ${operand.title}`,
      },
    ),
  );
}

/** The product under those recipes that quantise the operand so, but without its scale. */
function withoutScale({ attributes }: Op, id: string): Op {
  const a = attributes as unknown as LinearAttributes;
  const operands = a.weightFormat!.operands.map((operand) =>
    operand.id === id ? { ...operand, quantisation: { ...operand.quantisation, unscaled: true } } : operand,
  );
  const op = linear({ ...a, weightFormat: { ...a.weightFormat, operands } });
  const place = operands.findIndex((operand) => operand.id === id);
  return { ...op, recipes: op.recipes?.filter(({ settings }) => settings.operand === place) };
}
