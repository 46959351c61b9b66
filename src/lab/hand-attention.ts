import { emptyBlock, type Op } from "../spec/op.js";
import type { AttentionAttributes } from "../spec/ops/attention.js";

/** What a fault may do between the scores of a head and its output. */
export interface HandAttention {
  readonly score?: (score: number, head: number, query: number, key: number) => number;
  /** Exponentials, the largest of them 1, on their way to the values; the denominator keeps those it was given. */
  readonly weights?: (weights: readonly number[], row: number, head: number) => readonly number[];
  /** How keys fall into parts, and what each part's own softmax counts for, by its log-sum-exp. */
  readonly parts?: { of(position: number, keyCount: number): number; weight(logSum: number, largest: number): number };
  /** Keys that a row does not see although it may. */
  readonly visible?: (row: number, position: number) => boolean;
  /** Which keys a row may see at all; those before it within the window, and itself, unless given. */
  readonly mask?: (query: number, key: number, row: number) => boolean;
  /** Key/value head of a query head, for keys and for values; its group's unless given. */
  readonly keyHead?: (head: number) => number;
  readonly valueHead?: (head: number) => number;
  /** A logit that the softmax counts without a key. */
  readonly sink?: number;
  /** The row over whose sequence a row attends; its own unless given. */
  readonly keysOf?: (row: number) => number;
}

/** Causal attention written out: scores, exponentials, a sum. */
export function handAttention(a: AttentionAttributes, hand: HandAttention): Op {
  return {
    kind: "attention",
    attributes: {},
    evaluate(context, rows, columns) {
      const table = context.rows;
      const q = context.input(0, rows).value;
      const out = emptyBlock(rows.length * columns.length, false);
      rows.forEach((row, r) => {
        const own = table.position[row]!;
        const first = a.windowLeft === undefined ? 0 : Math.max(0, own - a.windowLeft);
        const seen: number[] = [];
        const source = hand.keysOf?.(row) ?? row;
        const may = hand.mask ?? ((query: number, key: number) => key >= first && key <= query);
        for (let position = 0; position < table.keyCount(source); position++)
          if (may(own, position, row) && (!hand.visible || hand.visible(row, position))) seen.push(position);
        const keyRows = Int32Array.from(seen, (position) => table.keyRow(source, position));
        const step = table.stepOf[row]!;
        const keys = context.input(1, keyRows, undefined, step).value;
        const values = context.input(2, keyRows, undefined, step).value;
        const width = a.keyValueHeads * a.headDim;
        for (let head = 0; head < a.heads; head++) {
          const group = Math.floor((head * a.keyValueHeads) / a.heads);
          const keyFrom = (hand.keyHead?.(head) ?? group) * a.headDim;
          const valueFrom = (hand.valueHead?.(head) ?? group) * a.headDim;
          const scores = seen.map((position, j) => {
            let dot = 0;
            for (let d = 0; d < a.headDim; d++)
              dot += q[r * a.heads * a.headDim + head * a.headDim + d]! * keys[j * width + keyFrom + d]!;
            const scaled = dot * a.scale;
            return hand.score ? hand.score(scaled, head, own, position) : scaled;
          });
          const channels = headOutput(
            scores,
            seen,
            table.keyCount(source),
            hand,
            row,
            head,
            (j, d) => values[j * width + valueFrom + d]!,
          )(a.headDim);
          columns.forEach((column, c) => {
            if (Math.floor(column / a.headDim) === head)
              out.value[r * columns.length + c] = channels[column % a.headDim]!;
          });
        }
      });
      return out;
    },
  };
}

function headOutput(
  scores: readonly number[],
  positions: readonly number[],
  keyCount: number,
  hand: HandAttention,
  row: number,
  head: number,
  value: (j: number, d: number) => number,
): (width: number) => number[] {
  const largest = Math.max(...scores, hand.sink ?? -Infinity);
  const exponentials = scores.map((score) => Math.exp(score - largest));
  const used = hand.weights?.(exponentials, row, head) ?? exponentials;
  const parts = new Map<number, number[]>();
  positions.forEach((position, j) => {
    const part = hand.parts?.of(position, keyCount) ?? 0;
    parts.set(part, [...(parts.get(part) ?? []), j]);
  });
  const alone = hand.sink === undefined ? 0 : Math.exp(hand.sink - largest);
  const sums = [...parts.values()].map((members) => members.reduce((sum, j) => sum + exponentials[j]!, alone));
  const logs = sums.map((sum) => largest + Math.log(sum));
  const weights = logs.map((log) => hand.parts?.weight(log, Math.max(...logs)) ?? 1);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return (width) =>
    Array.from({ length: width }, (_, d) => {
      let sum = 0;
      [...parts.values()].forEach((members, p) => {
        const own = members.reduce((so, j) => so + used[j]! * value(j, d), 0) / sums[p]!;
        sum += (weights[p]! / total) * own;
      });
      return sum;
    });
}
