import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import { roleOf } from "../../spec/site.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";
import { weightCauses } from "./weights.js";

/** RMSNorm: what its channels are multiplied by. */
export const normWeightCauses = {
  "norm-weight-absent": {
    kind: "seam",
    transform: "T6",
    legend: "RMSNorm does not multiply by its weight.",
    hiddenBy: "weights that are all 1",
    confusedWith: ["norm-weight-offset", "column-gain"],
  },
  "norm-weight-offset": {
    kind: "seam",
    transform: "T6",
    legend:
      "RMSNorm multiplies by its weight plus or minus 1: the Gemma convention on weights that do not follow it, or the reverse.",
    hiddenBy: "never",
    confusedWith: ["norm-weight-absent", "column-gain"],
    report: ["linkedin/Liger-Kernel#74", "Gemma's 1 + weight was taken for the weight"],
  },
  "norm-weights-swapped": {
    kind: "parameter",
    transform: "T19",
    legend: "A norm multiplies by the weight of another norm of its layer.",
    hiddenBy: "equal weights, as in a model just initialised",
    confusedWith: ["column-gain", "weight-from-other-layer"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...normWeightCauses, ...weightCauses });
const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as RmsNormAttributes;
const isWeighted = (proposal: Proposal) =>
  proposal.site.op.kind === "rmsnorm" && attributesOf(proposal).weight !== undefined;
const changed = (proposal: Proposal, change: Partial<RmsNormAttributes>) => [
  replaced(proposal.site, { op: rmsNorm({ ...attributesOf(proposal), ...change }) }),
];

export const normWeightSearches: readonly Search[] = [
  {
    causes: ["norm-weight-absent"],
    stage: "large",
    appliesTo: isWeighted,
    rewrites: (proposal) => [
      hypothesis("norm-weight-absent", proposal.site, changed(proposal, { weight: undefined }), {
        statement: "RMSNorm does not multiply by its weight",
      }),
    ],
  },
  {
    causes: ["norm-weight-offset"],
    stage: "large",
    appliesTo: isWeighted,
    rewrites: (proposal) =>
      (
        [
          [1, false],
          [1, true],
          [-1, false],
        ] as const
      ).map(([offset, storedOffset]) => {
        const weightOffset = offset + (attributesOf(proposal).weightOffset ?? 0);
        return hypothesis("norm-weight-offset", proposal.site, changed(proposal, { weightOffset, storedOffset }), {
          parameters: { offset },
          statement: `RMSNorm multiplies by its weight ${offset > 0 ? "plus" : "minus"} 1: the Gemma convention on weights that do not follow it, or the reverse`,
        });
      }),
  },
  {
    causes: ["norm-weights-swapped", "weight-from-other-layer"],
    stage: "large",
    appliesTo: isWeighted,
    rewrites: (proposal) => otherWeights(proposal, attributesOf(proposal)),
  },
];

/** The weight of another norm of the same width. */
function otherWeights({ site, investigation }: Proposal, a: RmsNormAttributes): Hypothesis[] {
  if (!a.weight) return [];
  const out: Hypothesis[] = [];
  for (const norm of investigation.graph.nodes.values()) {
    const { weight: name, width } = norm.op.attributes as unknown as RmsNormAttributes;
    if (norm.op.kind !== "rmsnorm" || !name || name === a.weight || width !== a.width) continue;
    const sameLayer = site.layer !== undefined && norm.layer === site.layer;
    if (!sameLayer && roleOf(norm) !== roleOf(site)) continue;
    const cause = sameLayer ? "norm-weights-swapped" : "weight-from-other-layer";
    const distance = (norm.layer ?? 0) - (site.layer ?? 0);
    out.push(
      hypothesis(cause, site, [replaced(site, { op: rmsNorm({ ...a, weight: name }) })], {
        // Exchanged, both norms are wrong in the same way.
        parameters: sameLayer ? {} : { used: name },
        statement: `the norm uses ${name} in place of ${a.weight}`,
        group: sameLayer ? cause : `${cause} ${distance}`,
      }),
    );
  }
  return out;
}
