import type { GraphNode } from "../../spec/graph.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, lastName, type Proposal, type Search } from "./proposal.js";
import { replaced, taken } from "./transform.js";

/** In which order heads lie. */
export const headCauses = {
  "heads-permuted": {
    kind: "seam",
    transform: "T1",
    legend: "Heads stand in another order than their reader, or their producer, believes.",
    hiddenBy: "one head",
    confusedWith: ["heads-interleaved", "strides-ignored", "gqa-tiled"],
    report: ["huggingface/transformers#31766", "heads of a converted checkpoint were permuted by the wrong head count"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(headCauses);

export const headSearches: readonly Search[] = [
  {
    causes: ["heads-permuted"],
    stage: "named",
    appliesTo: ({ site, investigation }) =>
      site.op.kind === "linear" && (investigation.graph.node(site.inputs[0]!).heads ?? 1) > 1,
    rewrites: permutedHeads,
  },
];

/** The attention output reaches the projection with heads in another order, or with its axes exchanged. */
function permutedHeads({ site, investigation }: Proposal): Hypothesis[] {
  const input = investigation.graph.node(site.inputs[0]!);
  const heads = input.heads!;
  const width = input.columns / heads;
  const orders: [string, (column: number) => number][] = [
    ["reversed", (c) => (heads - 1 - Math.floor(c / width)) * width + (c % width)],
    ["channel-major", (c) => (c % heads) * width + Math.floor(c / heads)],
    ["head-minor", (c) => (c % width) * heads + Math.floor(c / width)],
  ];
  for (let shift = 1; shift < Math.min(heads, 9); shift++)
    orders.push([`rotated by ${shift}`, (c) => ((Math.floor(c / width) + shift) % heads) * width + (c % width)]);
  for (let a = 0; a < Math.min(heads, 8); a++) {
    for (let b = a + 1; b < Math.min(heads, 8); b++) {
      const swap = (h: number) => (h === a ? b : h === b ? a : h);
      orders.push([`heads ${a} and ${b} exchanged`, (c) => swap(Math.floor(c / width)) * width + (c % width)]);
    }
  }
  for (let group = 2; group < heads; group++) {
    if (heads % group !== 0) continue;
    orders.push([
      `grouped by ${group}`,
      (c) =>
        ((Math.floor(c / width) % group) * (heads / group) + Math.floor(Math.floor(c / width) / group)) * width +
        (c % width),
    ]);
  }
  return orders.map(([order, columnOf]) => {
    const permuted: GraphNode = {
      ...input,
      name: `${site.name}.permuted`,
      op: taken({ order }, columnOf),
      inputs: [input.name],
    };
    return hypothesis("heads-permuted", site, [permuted, replaced(site, { inputs: [permuted.name] })], {
      parameters: { order },
      statement: `${lastName(site.name)} reads its ${heads} heads in another order: ${order}`,
    });
  });
}
