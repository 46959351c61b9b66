import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { RowTable } from "../../spec/rows.js";
import type { Investigation } from "../check/investigation.js";
import type { CauseKind, Hypothesis } from "./hypothesis.js";
import type { Proposal } from "./proposal.js";

/** One change of attention's settings as a hypothesis. */
export type Rewrite = (
  cause: string,
  kind: CauseKind,
  transform: string,
  change: Partial<AttentionAttributes>,
  statement: string,
  parameters?: Record<string, number | string>,
  fitted?: number,
  heldOut?: (row: number, column: number) => boolean,
) => Hypothesis;

/** Which keys a query sees: causality, windows, lengths, tiles. */
export function masks(a: AttentionAttributes, one: Rewrite, { investigation, finding }: Proposal): Hypothesis[] {
  const table = investigation.observations.rows;
  const out = [
    one("causal-missing", "seam", "T4", { lookAhead: Infinity }, "no causal mask: tokens see those after them"),
    one("causal-strict", "kernel", "T4", { lookAhead: -1 }, "the causal mask is strict: a token does not see itself"),
    one(
      "causal-strict",
      "kernel",
      "T4",
      { lookAhead: -1, emptyRow: "self" },
      "the causal mask is strict: a token does not see itself, but for the first, which has nothing else to see",
      { first: "itself" },
    ),
    one(
      "causal-strict",
      "kernel",
      "T4",
      { lookAhead: -1, emptyRow: "mean" },
      "the causal mask is strict: a token does not see itself, and the first sees all keys alike",
      { first: "mean" },
    ),
    one(
      "causal-top-left",
      "seam",
      "T4",
      { topLeft: true },
      "the causal mask is aligned top-left: a chunk's first token sees one key only",
    ),
  ];
  const { rows } = finding.comparison;
  const most = Math.max(...Array.from(rows, (row) => table.keyCount(row) - 1 - table.position[row]!));
  for (const ahead of [1, 2, 3, 4, 8, 16]) {
    // Reaching all later tokens is no mask at all.
    if (ahead >= most) break;
    out.push(
      one(
        "causal-ahead",
        "kernel",
        "T4",
        { lookAhead: ahead },
        `the causal mask reaches ${ahead} token${ahead > 1 ? "s" : ""} too far`,
        { tokens: ahead },
      ),
    );
  }
  for (const behind of [2, 3, 4]) {
    out.push(
      one("causal-behind", "kernel", "T4", { lookAhead: -behind }, `the causal mask ends ${behind} tokens too early`, {
        tokens: behind,
      }),
    );
  }
  const longest = Math.max(...Array.from(rows, (row) => table.position[row]!));
  const windows = new Set(Array.from({ length: Math.min(longest, 64) }, (_, i) => i));
  for (let w = 64; w <= longest; w *= 2) for (const near of [w - 1, w, w + 1]) windows.add(near);
  if (a.windowLeft !== undefined) for (const near of [-2, -1, 1, 2]) windows.add(a.windowLeft + near);
  for (const windowLeft of windows) {
    if (windowLeft < 0 || windowLeft === a.windowLeft) continue;
    const statement =
      a.windowLeft === undefined
        ? `attention sees a window of ${windowLeft + 1} tokens that the model does not have`
        : `the window holds ${windowLeft + 1} tokens, not ${a.windowLeft + 1}`;
    out.push(
      one("window", "parameter", "T4", { windowLeft }, statement, { windowLeft }, a.windowLeft === undefined ? 1 : 0),
    );
  }
  if (a.windowLeft !== undefined)
    out.push(one("window-missing", "parameter", "T4", { windowLeft: undefined }, "the sliding window is not applied"));
  const bits = investigation.hasBits(finding.node.name);
  for (let skipped = 1; skipped <= Math.min(bits ? 8 : 2, longest); skipped++) {
    for (const emptyRow of bits ? (["zero", "self", "mean"] as const) : (["self"] as const)) {
      out.push(
        one(
          "first-keys-skipped",
          "kernel",
          "T4",
          { visible: (_, position) => position >= skipped, emptyRow },
          `the first ${skipped} key${skipped > 1 ? "s are" : " is"} skipped`,
          { keys: skipped },
          bits ? 1 : 0,
        ),
      );
    }
    if (skipped > 1) {
      const visible = (row: number, position: number) => position >= skipped || table.position[row]! < skipped;
      const statement = `the first ${skipped} keys are skipped by all tokens after them`;
      out.push(
        one("first-keys-skipped", "kernel", "T4", { visible }, statement, { keys: skipped, by: "later" }, bits ? 1 : 0),
      );
    }
  }
  out.push(...claimedLengths(one, investigation));
  const chunks = table.steps.some(({ qoIndptr, lengths }) =>
    lengths.some((length, b) => length > qoIndptr[b + 1]! - qoIndptr[b]!),
  );
  for (const decoding of chunks ? [false, true] : []) {
    out.push(
      one(
        "history-unseen",
        "kernel",
        "T4",
        { visible: (row, position) => position >= firstSeen(table, row, decoding) },
        `${decoding ? "tokens see nothing" : "the tokens of a chunk see nothing"} that earlier steps put into the cache`,
        { steps: decoding ? "all" : "of several tokens" },
      ),
    );
  }
  for (const missing of [1, 2, 3, 4, 8, 16]) {
    if (missing > longest) break;
    out.push(
      one(
        "key-length-short",
        "metadata",
        "T4",
        { visible: (_, position, keyCount) => position < keyCount - missing },
        `the key length is ${missing} too short: the newest key${missing > 1 ? "s are" : " is"} not seen`,
        { keys: missing },
      ),
    );
  }
  const sequenceCount = Math.max(...table.steps.map((step) => step.seqIds.length));
  for (const [which, move] of [
    ["the next sequence", 1],
    ["the sequence before", -1],
  ] as const) {
    if (sequenceCount < 2) break;
    const keysFrom = (row: number) => {
      const step = table.steps[table.stepOf[row]!]!;
      const count = step.seqIds.length;
      return step.firstRow + step.qoIndptr[(table.sequenceOf[row]! + move + count) % count]!;
    };
    out.push(
      one("keys-of-other-sequence", "metadata", "T3", { keysFrom }, `queries attend over the keys of ${which}`, {
        which,
      }),
    );
  }
  for (const tile of [4, 8, 16, 32, 64, 128]) {
    if (tile > longest) break;
    out.push(
      one(
        "keys-skipped",
        "kernel",
        "T4",
        { visible: (_, position) => position % (2 * tile) < tile },
        `every second tile of ${tile} keys is skipped`,
        { tile },
        1,
      ),
      one(
        "key-tail-dropped",
        "kernel",
        "T4",
        {
          visible: (row, position) =>
            position < Math.floor((table.position[row]! + 1) / tile) * tile || table.position[row]! + 1 < tile,
        },
        `keys after the last full tile of ${tile} are dropped`,
        { tile },
        1,
      ),
    );
  }
  return out;
}

/** Lengths that a step's page metadata claims where token counts say others: attention reads as many keys as claimed. */
function claimedLengths(one: Rewrite, { capture, observations }: Investigation): Hypothesis[] {
  const table = observations.rows;
  const claimed = capture.steps.map(({ kv_indptr: indptr, kv_last_page_len: last, page_size: pageSize }) =>
    indptr && last && pageSize
      ? last.map((length, b) => Math.max(0, indptr[b + 1]! - indptr[b]! - 1) * pageSize + length)
      : undefined,
  );
  const lengthOf = (row: number) => claimed[table.stepOf[row]!]?.[table.sequenceOf[row]!];
  const differences = new Set<number>();
  table.steps.forEach(({ lengths }, step) => {
    for (const [b, length] of lengths.entries()) differences.add((claimed[step]?.[b] ?? length) - length);
  });
  differences.delete(0);
  if (differences.size !== 1) return [];
  const [difference] = [...differences] as [number];
  const visible = (row: number, position: number) => position < (lengthOf(row) ?? Infinity);
  const statement = "attention reads as many keys as kv_last_page_len says, not as many as there are tokens";
  return [one("last-page-length", "metadata", "T4", { visible }, statement, { difference })];
}

/** The first position that a row sees when its step does not look into the cache. */
function firstSeen(table: RowTable, row: number, decoding: boolean): number {
  const step = table.steps[table.stepOf[row]!]!;
  const b = table.sequenceOf[row]!;
  const count = step.qoIndptr[b + 1]! - step.qoIndptr[b]!;
  return decoding || count > 1 ? table.position[step.firstRow + step.qoIndptr[b]!]! : 0;
}
