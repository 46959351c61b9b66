import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { relabelled, replaced } from "./transform.js";

/** In which order the channels of a head come out of their projection. */
export const ropeWeightCauses = {
  "rope-weight-permuted": {
    kind: "parameter",
    transform: "T1",
    legend:
      "The weight of queries or keys has its channels in the order of the other RoPE convention: pairs that lie side by side where halves belong, or the reverse.",
    hiddenBy: "heads of two channels",
    confusedWith: ["rope-interleaved", "heads-permuted", "columns-permuted"],
    report: ["karpathy/llama2.c#286", "weights were exported in the order of the other convention"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(ropeWeightCauses);

export const ropeWeightSearches: readonly Search[] = [
  {
    causes: ["rope-weight-permuted"],
    stage: "named",
    appliesTo: ({ site }) => site.op.kind === "linear" && ["query", "key"].includes(site.site.what),
    rewrites: permuted,
  },
];

function permuted({ site, investigation }: Proposal): Hypothesis[] {
  const { headDim } = investigation.config;
  const half = headDim / 2;
  const orders: readonly [string, (channel: number) => number][] = [
    ["side by side", (channel) => (channel % 2) * half + (channel >> 1)],
    ["in halves", (channel) => 2 * (channel % half) + Math.floor(channel / half)],
  ];
  return orders.map(([pairs, from]) => {
    const op = relabelled(site.op, { pairs }, (row, column) => {
      const channel = column % headDim;
      return [row, column - channel + from(channel)];
    });
    return hypothesis("rope-weight-permuted", site, [replaced(site, { op })], {
      parameters: { pairs },
      statement: `the channels of each head come with the pairs of RoPE ${pairs}: the weight was permuted for the other convention`,
    });
  });
}
