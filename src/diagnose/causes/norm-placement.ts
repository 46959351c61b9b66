import type { Graph, GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import type { CauseEntries } from "./cause-entry.js";
import { freshName, hypothesesOf, ofKind, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Norms that families place differently: behind a branch, and over whole projections. */
export const normPlacementCauses = {
  "norm-of-sum": {
    kind: "seam",
    transform: "T13",
    legend: "The norm behind a branch is applied to the stream after the branch was added, not to the branch alone.",
    hiddenBy: "never",
    confusedWith: ["residual-dropped", "norm-missing"],
  },
  "norm-per-head": {
    kind: "kernel",
    transform: "T6",
    legend: "Queries or keys are normalised head by head where the model normalises all heads together.",
    hiddenBy: "heads of equal size",
    confusedWith: ["row-head-gain", "norm-across-heads"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(normPlacementCauses);

export const normPlacementSearches: readonly Search[] = [
  {
    causes: ["norm-of-sum"],
    stage: "large",
    appliesTo: ({ site }) => site.site.what === "post-norm" && site.name === site.site.name,
    rewrites({ site, investigation: { graph } }) {
      const own = afterSum(graph, site);
      const before = site.site.block === "mlp" ? graph.at({ ...site.site, block: "attention" }) : undefined;
      // What the branch before did to the stream shows only here where the sum between them was not recorded.
      return [own, ...(before ? [[...afterSum(graph, before), ...own]] : [])].map((replacements) =>
        hypothesis("norm-of-sum", site, replacements, {
          statement: "norms behind branches are applied after the branch was added to the stream",
        }),
      );
    },
  },
  {
    causes: ["norm-per-head"],
    stage: "large",
    appliesTo: (proposal) =>
      ofKind("rmsnorm")(proposal) && (proposal.site.heads ?? 1) > 1 && widthOf(proposal.site) === proposal.site.columns,
    rewrites({ site }) {
      const a = site.op.attributes as unknown as RmsNormAttributes;
      const op = rmsNorm({ ...a, width: site.columns / site.heads!, weightWidth: a.width });
      return [
        hypothesis("norm-per-head", site, [replaced(site, { op })], {
          statement: "every head is normalised by itself where the model normalises all of them together",
        }),
      ];
    },
  },
];

/** The norm over the sum of stream and branch, and its result in place of the sum. */
function afterSum(graph: Graph, norm: GraphNode): GraphNode[] {
  const sum = graph.at({ ...norm.site, what: "stream" });
  if (sum?.inputs[1] !== norm.name) return [];
  const inputs = [sum.inputs[0]!, norm.inputs[0]!];
  const added: GraphNode = { ...sum, name: freshName(graph, `${sum.name}.not normalised`), inputs };
  return [added, replaced(norm, { inputs: [added.name] }), replaced(sum, { op: identity(), inputs: [norm.name] })];
}

function widthOf({ op }: GraphNode): number {
  return (op.attributes as unknown as RmsNormAttributes).width;
}
