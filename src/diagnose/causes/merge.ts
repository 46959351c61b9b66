import type { PartMerge } from "../../spec/ops/softmax-rewrites.js";
import { attendingSearches, type Change } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import type { Proposal, Search } from "./proposal.js";

/** Keys attended in parts (split-K decoding, a cascade, a ring) whose results are put together. */
export const mergeCauses = {
  "merge-wrong": {
    kind: "kernel",
    transform: "T15",
    legend: "Keys are attended in parts whose results are merged by a wrong rule.",
    hiddenBy: "rows whose keys all fall into one part",
    confusedWith: ["softmax-scale", "keys-skipped", "probabilities-quantised"],
    report: ["flashinfer-ai/flashinfer#4485", "the base of the log-sum-exp depended on the back end"],
  },
} as const satisfies CauseEntries;

const rules: readonly [PartMerge["rule"], string][] = [
  ["natural-as-base-2", "their natural log-sum-exps are taken for logarithms of base 2"],
  ["base-2-as-natural", "their log-sum-exps of base 2 are taken for natural ones"],
  ["mean", "they are averaged, whatever their log-sum-exps"],
  ["added", "they are added up without weights"],
  ["unscaled", "their sums are added without being scaled to one maximum"],
];

export const mergeSearches: readonly Search[] = [
  attendingSearches(mergeCauses)(["merge-wrong"], (one, _, proposal) => merges(one, proposal), {
    appliesTo: ({ investigation, finding }) => investigation.hasBits(finding.node.name),
  }),
];

function merges(one: Change<"merge-wrong">, { finding, investigation }: Proposal): Hypothesis[] {
  const table = investigation.observations.rows;
  const most = Math.max(...Array.from(finding.comparison.rows, (row) => table.keyCount(row)));
  const splits: [string, PartMerge["bounds"]][] = [];
  for (const parts of [2, 3, 4, 8]) {
    if (parts >= most) break;
    const inner = Array.from({ length: parts - 1 }, (_, i) => i + 1);
    splits.push([`${parts} parts`, (count) => inner.map((i) => Math.ceil((count * i) / parts))]);
    if (most % parts > 0) splits.push([`${parts} parts`, (count) => inner.map((i) => Math.floor((count * i) / parts))]);
  }
  for (const tile of [16, 32, 64, 128, 256, 512]) {
    if (tile >= most) break;
    splits.push([
      `parts of ${tile} keys`,
      (count) => Array.from({ length: Math.ceil(count / tile) - 1 }, (_, i) => (i + 1) * tile),
    ]);
  }
  return splits.flatMap(([split, bounds]) =>
    rules.map(([rule, what]) =>
      one(
        "merge-wrong",
        { rewrite: { merge: { bounds, rule } } },
        `keys are attended in ${split} that are merged wrongly: ${what}`,
        { split, rule },
      ),
    ),
  );
}
