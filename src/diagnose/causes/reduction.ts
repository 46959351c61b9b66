import type { GraphNode } from "../../spec/graph.js";
import type { Op } from "../../spec/op.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** How much of its inputs a product sums up. */
export const reductionCauses = {
  "reduction-incomplete": {
    kind: "kernel",
    transform: "T14",
    legend: "The sum of a product leaves out inputs: its tail, its head or one tile.",
    hiddenBy: "inputs of zero there",
    confusedWith: ["low-rank-delta", "branch-scaled"],
    report: ["pytorch/pytorch#169222", "the tail of a length that is no multiple of the tile was read out of bounds"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(reductionCauses);

export const reductionSearches: readonly Search[] = [
  { causes: ["reduction-incomplete"], stage: "named", appliesTo: ofKind("linear"), rewrites: reductions },
];

/** A reduction that leaves out its tail, its head, or one tile: K not a multiple of the tile, a loop one step short. */
function reductions({ site, investigation, finding }: Proposal): Hypothesis[] {
  const input = investigation.graph.node(site.inputs[0]!);
  const n = input.columns;
  const skipped: [number, number][] = [];
  for (const share of [n / 2, n / 4, n / 8, n / 3])
    if (Number.isInteger(share)) skipped.push([n - share, n], [0, share]);
  for (const count of [1, 2, 4, 8]) if (count < n) skipped.push([n - count, n]);
  for (const tile of [16, 32, 64, 128, 256]) {
    if (tile >= n) break;
    for (let count = 1; count <= 8 && count * tile < n; count++) skipped.push([n - count * tile, n]);
    if (n % tile > 0) skipped.push([n - (n % tile), n]);
    if (tile >= 32)
      for (let first = 0; first + tile < n && first / tile < 64; first += tile) skipped.push([first, first + tile]);
  }
  // Across many ops one tile more or less does not show.
  if (!investigation.hasBits(finding.node.name)) skipped.splice(0, skipped.length, [n / 2, n]);
  const distinct = new Map(skipped.map((range) => [range.join(), range]));
  return [...distinct.values()].map(([first, end]) => {
    const op: Op = {
      kind: "identity",
      attributes: { skipped: [first, end - 1] },
      evaluate(context, rows, columns) {
        const block = context.input(0, rows, columns);
        const keep = (_: number, i: number) =>
          columns[i % columns.length]! < first || columns[i % columns.length]! >= end;
        return {
          value: block.value.map((x, i) => (keep(x, i) ? x : 0)),
          variance:
            block.variance.length > 0
              ? block.variance.map((v, i) => (keep(v, i) ? v : 0))
              : new Float64Array(block.value.length),
        };
      },
    };
    const view: GraphNode = { ...input, name: `${site.name}.reduced`, op, inputs: [input.name] };
    return hypothesis("reduction-incomplete", site, [view, replaced(site, { inputs: [view.name] })], {
      parameters: { first, last: end - 1, length: n },
      statement: `the sum leaves out inputs ${first} to ${end - 1} of ${n}`,
    });
  });
}
