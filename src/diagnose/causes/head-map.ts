import { attendingSearches, type Change } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";

/** Which key/value head a query head reads. */
export const headMapCauses = {
  "gqa-tiled": {
    kind: "kernel",
    transform: "T3",
    legend: "Query head h reads key/value head h mod their number, as if they were tiled and not repeated.",
    hiddenBy: "one key/value head, or as many as query heads",
    confusedWith: ["heads-interleaved", "gqa-shifted"],
    report: ["onnx/onnx#7274", "key/value heads were tiled where they have to be repeated"],
  },
  "gqa-head-zero": {
    kind: "kernel",
    transform: "T3",
    legend: "Every query head reads key/value head 0.",
    hiddenBy: "one key/value head",
    confusedWith: ["gqa-tiled"],
  },
  "gqa-shifted": {
    kind: "kernel",
    transform: "T3",
    legend: "Query heads read a key/value head further on than theirs.",
    hiddenBy: "one key/value head",
    confusedWith: ["gqa-tiled", "heads-permuted"],
    report: ["sgl-project/sglang#20967", "with more ranks than key heads, replicas took the wrong one"],
  },
  "gqa-reversed": {
    kind: "kernel",
    transform: "T3",
    legend: "Key/value heads are read in reverse.",
    hiddenBy: "one key/value head",
    confusedWith: ["heads-permuted"],
  },
} as const satisfies CauseEntries;

type HeadMapCause = keyof typeof headMapCauses;
const search = attendingSearches(headMapCauses);

function mapping(
  cause: HeadMapCause,
  maps: (
    keyValueHeads: number,
    group: number,
  ) => readonly (readonly [title: string, keyHeadOf: (head: number) => number])[],
) {
  return search([cause], (one, { heads, keyValueHeads }) => {
    if (keyValueHeads === 1) return [];
    const group = heads / keyValueHeads;
    return maps(keyValueHeads, group).flatMap(([title, keyHeadOf]) =>
      mapped(one, cause, heads, group, title, keyHeadOf),
    );
  });
}

/** Of keys and values, of values only, of keys only; nothing where the map is the right one. */
function mapped(
  one: Change<HeadMapCause>,
  cause: HeadMapCause,
  heads: number,
  group: number,
  title: string,
  keyHeadOf: (head: number) => number,
): Hypothesis[] {
  const right = (head: number) => Math.floor(head / group);
  const map = Array.from({ length: heads }, (_, head) => keyHeadOf(head));
  if (map.every((keyHead, head) => keyHead === right(head))) return [];
  return [
    one(cause, { keyHeadOf }, title, { map: map.join(" ") }),
    one(cause, { valueHeadOf: keyHeadOf }, `${title} (values only)`, { values: "only" }),
    one(cause, { keyHeadOf, valueHeadOf: right }, `${title} (keys only)`, { keys: "only" }),
  ];
}

export const headMapSearches = [
  mapping("gqa-tiled", (count, group) => [
    [`query head h reads key/value head h mod ${count}, not ⌊h/${group}⌋`, (head) => head % count],
  ]),
  mapping("gqa-head-zero", () => [["every query head reads key/value head 0", () => 0]]),
  mapping("gqa-shifted", (count, group) =>
    Array.from({ length: count - 1 }, (_, i) => [
      `query heads read the key/value head ${i + 1} further on`,
      (head: number) => (Math.floor(head / group) + i + 1) % count,
    ]),
  ),
  mapping("gqa-reversed", (count, group) => [
    ["key/value heads are read in reverse", (head) => count - 1 - Math.floor(head / group)],
  ]),
];
