import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import type { CauseEntries } from "./cause-entry.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** What is added to a product. */
export const biasCauses = {
  "bias-dropped": {
    kind: "parameter",
    transform: "T11",
    legend: "A product's bias is not added.",
    hiddenBy: "a bias of zeros",
    confusedWith: ["bias-scaled", "additive-constant"],
    report: ["microsoft/onnxruntime#28459", "a bias was bound to another input and lost"],
  },
  "bias-scaled": {
    kind: "seam",
    transform: "T11",
    legend: "A bias is added several times: once per rank, or on both sides of a seam.",
    hiddenBy: "a bias of zeros",
    confusedWith: ["bias-dropped", "additive-constant"],
    report: ["huggingface/text-generation-inference#1036", "every rank added the bias before the sum"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(biasCauses);
const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as LinearAttributes;
const isBiased = (proposal: Proposal) =>
  proposal.site.op.kind === "linear" && attributesOf(proposal).bias !== undefined;

export const biasSearches: readonly Search[] = [
  {
    causes: ["bias-dropped"],
    stage: "named",
    appliesTo: isBiased,
    rewrites(proposal) {
      const { bias, ...a } = attributesOf(proposal);
      return [
        hypothesis("bias-dropped", proposal.site, [replaced(proposal.site, { op: linear(a) })], {
          statement: `the bias ${bias} is not added`,
        }),
      ];
    },
  },
  {
    causes: ["bias-scaled"],
    stage: "named",
    appliesTo: isBiased,
    rewrites(proposal) {
      const { site } = proposal;
      const { bias, ...a } = attributesOf(proposal);
      return [2, 3, 4, 8, -1].map((factor) => {
        const without: GraphNode = { ...site, name: `${site.name}.without_bias`, op: linear(a) };
        const added: GraphNode = { ...site, name: `${site.name}.with_bias` };
        return hypothesis("bias-scaled", site, [without, added, combination(site, without.name, factor)], {
          parameters: { factor },
          statement: `the bias ${bias} is added ${factor} times: once per rank, or on both sides of a seam`,
        });
      });
    },
  },
];

/** without + factor · (with - without). */
function combination(site: GraphNode, without: string, factor: number): GraphNode {
  const op: Op = {
    kind: "linear",
    attributes: { factor },
    evaluate(context, rows, columns) {
      const a = context.input(0, rows, columns);
      const b = context.input(1, rows, columns);
      return { value: a.value.map((x, i) => x + factor * (b.value[i]! - x)), variance: b.variance.slice() };
    },
  };
  return { ...site, op, inputs: [without, `${site.name}.with_bias`] };
}
