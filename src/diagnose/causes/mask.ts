import { attendingSearches } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Proposal, Search } from "./proposal.js";

/** Causality and windows. */
export const maskCauses = {
  "causal-missing": {
    kind: "seam",
    transform: "T4",
    legend: "There is no causal mask: tokens see those after them.",
    hiddenBy: "the last row of a sequence",
    confusedWith: ["causal-ahead", "keys-of-other-sequence"],
  },
  "causal-strict": {
    kind: "kernel",
    transform: "T4",
    legend: "The causal mask is strict: a token does not see itself.",
    hiddenBy: "never",
    confusedWith: ["key-length-short", "causal-behind"],
  },
  "causal-top-left": {
    kind: "seam",
    transform: "T4",
    legend: "The causal mask is aligned top-left: the first token of a chunk sees one key only.",
    hiddenBy: "as many queries as keys",
    confusedWith: ["history-unseen", "window"],
    report: ["Dao-AILab/flash-attention#282", "the mask was aligned with the first key, not with the last"],
  },
  "causal-ahead": {
    kind: "kernel",
    transform: "T4",
    legend: "The causal mask reaches some tokens too far.",
    hiddenBy: "the last row of a sequence",
    confusedWith: ["causal-missing"],
  },
  "causal-behind": {
    kind: "kernel",
    transform: "T4",
    legend: "The causal mask ends some tokens too early.",
    hiddenBy: "never",
    confusedWith: ["causal-strict", "key-length-short"],
  },
  window: {
    kind: "parameter",
    transform: "T4",
    legend: "Attention sees a window that the model does not have, or one of another width.",
    hiddenBy: "rows before the window",
    confusedWith: ["first-keys-skipped", "history-unseen"],
    report: ["huggingface/transformers#39408", "a window lost one token in a rebuilt mask"],
  },
  "window-missing": {
    kind: "parameter",
    transform: "T4",
    legend: "The model's sliding window is not applied.",
    hiddenBy: "rows before the window",
    confusedWith: ["window"],
    report: ["vllm-project/vllm#3385", "the window of the config did not reach the kernel"],
  },
} as const satisfies CauseEntries;

const search = attendingSearches(maskCauses);

const ownRows = ({ finding }: Proposal) => Array.from(finding.comparison.rows);

/** The largest position among the finding's rows. */
export function longest(proposal: Proposal): number {
  const table = proposal.investigation.observations.rows;
  return Math.max(...ownRows(proposal).map((row) => table.position[row]!));
}

export const maskSearches: readonly Search[] = [
  search(["causal-missing"], (one) => [
    one("causal-missing", { lookAhead: Infinity }, "no causal mask: tokens see those after them"),
  ]),
  search(["causal-strict"], (one) => [
    one("causal-strict", { lookAhead: -1 }, "the causal mask is strict: a token does not see itself"),
    one(
      "causal-strict",
      { lookAhead: -1, emptyRow: "self" },
      "the causal mask is strict: a token does not see itself, but for the first, which has nothing else to see",
      { first: "itself" },
    ),
    one(
      "causal-strict",
      { lookAhead: -1, emptyRow: "mean" },
      "the causal mask is strict: a token does not see itself, and the first sees all keys alike",
      { first: "mean" },
    ),
  ]),
  search(["causal-top-left"], (one) => [
    one(
      "causal-top-left",
      { topLeft: true },
      "the causal mask is aligned top-left: a chunk's first token sees one key only",
    ),
  ]),
  search(["causal-ahead"], (one, _, proposal) => {
    const table = proposal.investigation.observations.rows;
    const most = Math.max(...ownRows(proposal).map((row) => table.keyCount(row) - 1 - table.position[row]!));
    // Reaching all later tokens is no mask at all.
    return [1, 2, 3, 4, 8, 16]
      .filter((ahead) => ahead < most)
      .map((ahead) =>
        one(
          "causal-ahead",
          { lookAhead: ahead },
          `the causal mask reaches ${ahead} token${ahead > 1 ? "s" : ""} too far`,
          { tokens: ahead },
        ),
      );
  }),
  search(["causal-behind"], (one) =>
    [2, 3, 4].map((behind) =>
      one("causal-behind", { lookAhead: -behind }, `the causal mask ends ${behind} tokens too early`, {
        tokens: behind,
      }),
    ),
  ),
  search(["window"], (one, { windowLeft: own }, proposal) => {
    const last = longest(proposal);
    const windows = new Set(Array.from({ length: Math.min(last, 64) }, (_, i) => i));
    for (let w = 64; w <= last; w *= 2) for (const near of [w - 1, w, w + 1]) windows.add(near);
    if (own !== undefined) for (const near of [-2, -1, 1, 2]) windows.add(own + near);
    return [...windows]
      .filter((windowLeft) => windowLeft >= 0 && windowLeft !== own)
      .map((windowLeft) => {
        const statement =
          own === undefined
            ? `attention sees a window of ${windowLeft + 1} tokens that the model does not have`
            : `the window holds ${windowLeft + 1} tokens, not ${own + 1}`;
        return one("window", { windowLeft }, statement, { windowLeft }, { fitted: own === undefined ? 1 : 0 });
      });
  }),
  search(["window-missing"], (one, { windowLeft }) =>
    windowLeft === undefined
      ? []
      : [one("window-missing", { windowLeft: undefined }, "the sliding window is not applied")],
  ),
];
