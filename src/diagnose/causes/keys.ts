import { claimedKeys } from "../../capture/key-slots.js";
import type { RowTable } from "../../spec/rows.js";
import type { Investigation } from "../check/investigation.js";
import { attendingSearches, type Change } from "./attention-settings.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { longest } from "./mask.js";
import type { Search } from "./proposal.js";
import { isLengthsAlone, originOf, stalePlan } from "./stale-plan.js";

/** Which of the keys that it may see a query does see: lengths, tiles, sequences. */
export const keyCauses = {
  "first-keys-skipped": {
    kind: "kernel",
    transform: "T4",
    legend: "The first keys are skipped, by all tokens or by those after them.",
    hiddenBy: "never",
    confusedWith: ["window", "history-unseen"],
    report: ["flashinfer-ai/flashinfer#3106", "short prompts were read from the wrong place of their pages"],
  },
  "last-page-length": {
    kind: "metadata",
    transform: "T4",
    legend: "The length of the last page is not what the token counts say, and attention believes it.",
    hiddenBy: "recordings without page metadata",
    confusedWith: ["key-length-short", "page-count"],
    report: ["microsoft/onnxruntime#24485", "a length meant as the last valid index was given as a count"],
  },
  "page-table-stale": {
    kind: "metadata",
    transform: "T18",
    legend:
      "Attention reads the page table of an earlier step: it was planned once and run again, or frozen in a graph.",
    hiddenBy: "a single step after the plan: lengths from before the token look the same",
    confusedWith: ["last-page-length", "page-count"],
  },
  "history-unseen": {
    kind: "kernel",
    transform: "T4",
    legend: "Tokens see nothing that earlier steps put into the cache.",
    hiddenBy: "a single prefill",
    confusedWith: ["causal-top-left", "first-keys-skipped"],
    report: ["GeeeekExplorer/nano-vllm#212", "lengths of a chunked prefill were those of something else"],
  },
  "key-length-short": {
    kind: "metadata",
    transform: "T4",
    legend: "The key length is too short: the newest keys are not seen.",
    hiddenBy: "rows before the last",
    confusedWith: ["causal-strict", "last-page-length", "cache-unwritten"],
    report: ["microsoft/onnxruntime#23315", "sequence lengths were one off between two conventions"],
  },
  "keys-of-other-sequence": {
    kind: "metadata",
    transform: "T3",
    legend: "Queries attend over the keys and values of another sequence of the batch.",
    hiddenBy: "one sequence",
    confusedWith: ["rows-shifted", "page-table-wrong"],
    report: ["vllm-project/vllm#5412", "page indices of a batch were built wrongly"],
  },
  "keys-skipped": {
    kind: "kernel",
    transform: "T4",
    legend: "Every second tile of keys is skipped.",
    hiddenBy: "fewer keys than a tile",
    confusedWith: ["window", "key-tail-dropped"],
    report: ["microsoft/onnxruntime#28520", "a loop stepped over 32 keys and computed 16"],
  },
  "key-tail-dropped": {
    kind: "kernel",
    transform: "T4",
    legend: "Keys after the last full tile are dropped.",
    hiddenBy: "lengths that are a multiple of the tile",
    confusedWith: ["key-length-short", "keys-skipped"],
    report: ["linkedin/Liger-Kernel#1361", "the grid was rounded down and its tail left out"],
  },
} as const satisfies CauseEntries;

const search = attendingSearches(keyCauses);

export const keySearches: readonly Search[] = [
  search(["first-keys-skipped"], (one, _, proposal) => {
    const { investigation, finding } = proposal;
    const table = investigation.observations.rows;
    const bits = investigation.hasBits(finding.node.name);
    const fitted = bits ? 1 : 0;
    const most = Math.min(bits ? 8 : 2, longest(proposal));
    return Array.from({ length: Math.max(0, most) }, (_, i) => i + 1).flatMap((skipped) => {
      const out = (bits ? (["zero", "self", "mean"] as const) : (["self"] as const)).map((emptyRow) =>
        one(
          "first-keys-skipped",
          { visible: (_, position) => position >= skipped, emptyRow },
          `the first ${skipped} key${skipped > 1 ? "s are" : " is"} skipped`,
          { keys: skipped },
          { fitted },
        ),
      );
      if (skipped === 1) return out;
      const visible = (row: number, position: number) => position >= skipped || table.position[row]! < skipped;
      const statement = `the first ${skipped} keys are skipped by all tokens after them`;
      return [...out, one("first-keys-skipped", { visible }, statement, { keys: skipped, by: "later" }, { fitted })];
    });
  }),
  search(["last-page-length", "page-table-stale"], (one, _, { investigation }) => claimedLengths(one, investigation)),
  search(["history-unseen"], (one, _, { investigation }) => {
    const table = investigation.observations.rows;
    const chunks = table.steps.some(({ qoIndptr, lengths }) =>
      lengths.some((length, b) => length > qoIndptr[b + 1]! - qoIndptr[b]!),
    );
    return (chunks ? [false, true] : []).map((decoding) =>
      one(
        "history-unseen",
        { visible: (row, position) => position >= firstSeen(table, row, decoding) },
        `${decoding ? "tokens see nothing" : "the tokens of a chunk see nothing"} that earlier steps put into the cache`,
        { steps: decoding ? "all" : "of several tokens" },
      ),
    );
  }),
  search(["key-length-short"], (one, _, proposal) =>
    [1, 2, 3, 4, 8, 16]
      .filter((missing) => missing <= longest(proposal))
      .map((missing) =>
        one(
          "key-length-short",
          { visible: (_, position, keyCount) => position < keyCount - missing },
          `the key length is ${missing} too short: the newest key${missing > 1 ? "s are" : " is"} not seen`,
          { keys: missing },
        ),
      ),
  ),
  search(["keys-of-other-sequence"], (one, _, { investigation }) => {
    const table = investigation.observations.rows;
    if (Math.max(...table.steps.map((step) => step.seqIds.length)) < 2) return [];
    return (
      [
        ["the next sequence", 1],
        ["the sequence before", -1],
      ] as const
    ).map(([which, move]) => {
      const keysFrom = (row: number) => {
        const step = table.steps[table.stepOf[row]!]!;
        const count = step.seqIds.length;
        return step.firstRow + step.qoIndptr[(table.sequenceOf[row]! + move + count) % count]!;
      };
      return one("keys-of-other-sequence", { keysFrom }, `queries attend over the keys of ${which}`, { which });
    });
  }),
  search(["keys-skipped", "key-tail-dropped"], (one, _, proposal) => {
    const table = proposal.investigation.observations.rows;
    return [4, 8, 16, 32, 64, 128]
      .filter((tile) => tile <= longest(proposal))
      .flatMap((tile) => [
        one(
          "keys-skipped",
          { visible: (_, position) => position % (2 * tile) < tile },
          `every second tile of ${tile} keys is skipped`,
          { tile },
          { fitted: 1 },
        ),
        one(
          "key-tail-dropped",
          {
            visible: (row, position) =>
              position < Math.floor((table.position[row]! + 1) / tile) * tile || table.position[row]! + 1 < tile,
          },
          `keys after the last full tile of ${tile} are dropped`,
          { tile },
          { fitted: 1 },
        ),
      ]);
  }),
];

/** Lengths that a step's page metadata claims where token counts say others: attention reads as many keys as claimed. */
function claimedLengths(
  one: Change<"last-page-length" | "page-table-stale">,
  investigation: Investigation,
): Hypothesis[] {
  const { capture, observations } = investigation;
  const table = observations.rows;
  const claimed = capture.steps.map((step) => step.seq_ids.map((_, b) => claimedKeys(step, b)));
  const lengthOf = (row: number) => claimed[table.stepOf[row]!]?.[table.sequenceOf[row]!];
  const differences = new Set<number>();
  table.steps.forEach(({ lengths }, step) => {
    for (const [b, length] of lengths.entries()) differences.add((claimed[step]?.[b] ?? length) - length);
  });
  differences.delete(0);
  const visible = (row: number, position: number) => position < (lengthOf(row) ?? Infinity);
  const plan = stalePlan(investigation);
  if (plan && !isLengthsAlone(plan)) {
    const statement = `attention reads ${originOf(plan)}: keys that came since are not in it`;
    return [one("page-table-stale", { visible }, statement, { planned: plan.planned })];
  }
  if (differences.size !== 1) return [];
  const [difference] = [...differences] as [number];
  const statement = "attention reads as many keys as kv_last_page_len says, not as many as there are tokens";
  return [one("last-page-length", { visible }, statement, { difference })];
}

/** The first position that a row sees when its step does not look into the cache. */
function firstSeen(table: RowTable, row: number, decoding: boolean): number {
  const step = table.steps[table.stepOf[row]!]!;
  const b = table.sequenceOf[row]!;
  const count = step.qoIndptr[b + 1]! - step.qoIndptr[b]!;
  return decoding || count > 1 ? table.position[step.firstRow + step.qoIndptr[b]!]! : 0;
}
