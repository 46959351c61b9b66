import { emptyBlock, indices, type Op } from "../spec/op.js";
import type { AttentionAttributes } from "../spec/ops/attention.js";
import { type DType, roundTo } from "../tensor/dtype.js";

export interface FlashChoices {
  /** Keys per tile of the running softmax. */
  readonly tile: number;
  /** Type in which a tile's probabilities multiply the values. */
  readonly probabilities: DType;
  /** Whether exponentials are powers of two. */
  readonly base2: boolean;
}

/**
 * Attention with a running maximum over tiles of keys, float32 inside: a correct implementation in another order than
 * the spec's. Dao et al., "FlashAttention", 2022. Causal, with grouped heads, an optional window and a mask of keys.
 */
export function flashAttention(a: AttentionAttributes, choices: FlashChoices): Op {
  return {
    kind: "attention",
    attributes: { ...a },
    evaluate(context, rows, columns) {
      const { rows: table, input } = context;
      const q = input(0, rows);
      const out = emptyBlock(rows.length * columns.length, false);
      const queryWidth = a.heads * a.headDim;
      const keyWidth = a.keyValueHeads * a.headDim;
      for (let r = 0; r < rows.length; r++) {
        const row = rows[r]!;
        const last = table.position[row]!;
        const first = a.windowLeft === undefined ? 0 : Math.max(0, last - a.windowLeft);
        const count = table.keyCount(row);
        const seen = indices(last + 1 - first)
          .map((i) => first + i)
          .filter((position) => !a.visible || a.visible(row, position, count));
        const masked = seen.length === 0;
        const keyRows = (masked ? indices(count) : seen).map((position) => table.keyRow(row, position));
        const step = table.stepOf[row]!;
        const keys = input(1, keyRows, undefined, step).value;
        const values = input(2, keyRows, undefined, step).value;
        const attended = new Map<number, Float64Array>();
        for (let c = 0; c < columns.length; c++) {
          const head = Math.floor(columns[c]! / a.headDim);
          let result = attended.get(head);
          if (!result) {
            const at = Math.floor((head * a.keyValueHeads) / a.heads) * a.headDim;
            // A row that sees no key has equal scores everywhere, as under a mask of one large negative number.
            const own = q.value.subarray(r * queryWidth + head * a.headDim);
            const query = masked ? new Float64Array(a.headDim) : own;
            result = attendHead(a, choices, query, keys, values, keyWidth, at, keyRows.length);
            attended.set(head, result);
          }
          out.value[r * columns.length + c] = result[columns[c]! % a.headDim]!;
        }
      }
      return out;
    },
  };
}

function attendHead(
  { headDim, scale }: AttentionAttributes,
  { tile, probabilities, base2 }: FlashChoices,
  query: Float64Array,
  keys: Float64Array,
  values: Float64Array,
  keyWidth: number,
  at: number,
  count: number,
): Float64Array {
  const f = Math.fround;
  const power = base2 ? (x: number) => f(2 ** x) : (x: number) => f(Math.exp(x));
  const factor = f(base2 ? scale * Math.LOG2E : scale);
  const accumulated = new Float64Array(headDim);
  let largest = -Infinity;
  let total = 0;
  for (let start = 0; start < count; start += tile) {
    const scores: number[] = [];
    for (let j = start; j < Math.min(start + tile, count); j++) {
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot = f(dot + query[d]! * keys[j * keyWidth + at + d]!);
      scores.push(f(dot * factor));
    }
    const tileLargest = Math.max(largest, ...scores);
    const rescale = largest === -Infinity ? 0 : power(f(largest - tileLargest));
    largest = tileLargest;
    total = f(total * rescale);
    for (let d = 0; d < headDim; d++) accumulated[d] = f(accumulated[d]! * rescale);
    scores.forEach((score, j) => {
      const p = power(f(score - largest));
      total = f(total + p);
      const rounded = roundTo(p, probabilities);
      const from = (start + j) * keyWidth + at;
      for (let d = 0; d < headDim; d++) accumulated[d] = f(accumulated[d]! + rounded * values[from + d]!);
    });
  }
  return accumulated.map((x) => f(x / total));
}
