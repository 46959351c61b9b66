import { computeVariance, float32Max, operandVariance, storeVariance } from "../noise.js";
import { type Block, emptyBlock, indices, mayBe, type Op, type OpContext, usableVariance } from "../op.js";

export interface AttentionAttributes {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  /** sm_scale: multiplies q·k before the soft cap. */
  readonly scale: number;
  /** cap · tanh(score / cap), before the mask; undefined for none. */
  readonly softCap?: number | undefined;
  /** Keys visible before the query's own, FlashInfer's window_left; undefined for all. */
  readonly windowLeft?: number | undefined;
  /** Last visible key relative to the query's position: 0 is causal, Infinity none. */
  readonly lookAhead?: number;
  /** Whether a query counts its keys from its place in the chunk rather than in the sequence (top-left causal). */
  readonly topLeft?: boolean;
  /** Key/value head a query head reads; `⌊head · keyValueHeads / heads⌋` unless a rewrite says otherwise. */
  readonly keyHeadOf?: (head: number) => number;
  readonly valueHeadOf?: (head: number) => number;
  /** A logit per head that joins the softmax's denominator and has no value (attention sink). */
  readonly sink?: number;
  /** What a row without visible keys gives: 0 (FlashInfer), or the mean of all values (a finite mask value everywhere). */
  readonly emptyRow?: "zero" | "mean";
  /** Row whose sequence's keys a row attends over; its own unless a rewrite says otherwise. */
  readonly keysFrom?: (row: number) => number;
  /** Whether a query may see the key at `position`, on top of the rules above. */
  readonly visible?: (row: number, position: number, keyCount: number) => boolean;
}

/**
 * softmax(scale · q Kᵀ + mask) V per row over the keys of the row's own sequence, paged or not: inputs q, keys, values,
 * [rows, heads × head_dim]. A row without visible keys gives 0 (FlashInfer). Vaswani et al., 2017; GQA: Ainslie et al., 2023.
 */
export function attention(attributes: AttentionAttributes): Op {
  return {
    kind: "attention",
    attributes: { ...attributes },
    evaluate(context, rows, columns) {
      const q = context.input(0, rows);
      const out = emptyBlock(rows.length * columns.length);
      for (const group of sequences(context, rows, attributes.keysFrom)) {
        const step = context.rows.stepOf[group.first]!;
        const keys = context.input(1, group.keyRows, undefined, step);
        const values = context.input(2, group.keyRows, undefined, step);
        for (const r of group.members) attendRow(context, attributes, { q, keys, values, out }, rows[r]!, r, columns);
      }
      return out;
    },
  };
}

interface Operands {
  q: Block;
  keys: Block;
  values: Block;
  out: ReturnType<typeof emptyBlock>;
}

/** Rows grouped by the sequence and step whose keys they share. */
function sequences({ rows: table }: OpContext, rows: Int32Array, keysFrom: AttentionAttributes["keysFrom"]) {
  const groups = new Map<string, { first: number; members: number[]; keyRows: Int32Array }>();
  for (let r = 0; r < rows.length; r++) {
    const row = rows[r]!;
    const key = `${table.stepOf[row]} ${table.sequenceOf[row]}`;
    const group = groups.get(key);
    if (group) group.members.push(r);
    else {
      const source = keysFrom ? keysFrom(row) : row;
      const keyRows = indices(table.keyCount(source)).map((position) => table.keyRow(source, position));
      groups.set(key, { first: row, members: [r], keyRows });
    }
  }
  return groups.values();
}

function visiblePositions({ rows: table }: OpContext, a: AttentionAttributes, row: number, keyCount: number): number[] {
  const step = table.steps[table.stepOf[row]!]!;
  const own = table.position[row]!;
  const query = a.topLeft ? row - step.firstRow - step.qoIndptr[table.sequenceOf[row]!]! : own;
  const last = query + (a.lookAhead ?? 0);
  const first = a.windowLeft === undefined ? 0 : query - a.windowLeft;
  const positions: number[] = [];
  for (let position = Math.max(0, first); position < keyCount && position <= last; position++) {
    if (!a.visible || a.visible(row, position, keyCount)) positions.push(position);
  }
  return positions;
}

function attendRow(
  context: OpContext,
  a: AttentionAttributes,
  operands: Operands,
  row: number,
  r: number,
  columns: Int32Array,
) {
  const { q, keys, values, out } = operands;
  const { headDim, heads, keyValueHeads } = a;
  const queryWidth = heads * headDim;
  const keyWidth = keyValueHeads * headDim;
  const count = keys.value.length / keyWidth;
  let positions = visiblePositions(context, a, row, count);
  const masked = positions.length === 0 && a.emptyRow === "mean";
  if (masked) positions = Array.from(indices(count));
  let head = -1;
  let weights: SoftmaxRow | undefined;
  for (let c = 0; c < columns.length; c++) {
    const column = columns[c]!;
    if (Math.floor(column / headDim) !== head) {
      head = Math.floor(column / headDim);
      const keyHead = a.keyHeadOf?.(head) ?? Math.floor((head * keyValueHeads) / heads);
      weights = masked
        ? uniformRow(count, context.noise)
        : softmaxRow(context, a, q, r * queryWidth + head * headDim, keys, keyHead, positions);
    }
    const valueHead = (a.valueHeadOf ?? a.keyHeadOf)?.(head) ?? Math.floor((head * keyValueHeads) / heads);
    const channel = valueHead * headDim + (column % headDim);
    weightedSum(context, weights!, values, channel, keyWidth, positions, out, r * columns.length + c);
  }
}

interface SoftmaxRow {
  /** Probability of each visible key. */
  readonly p: Float64Array;
  /** Variance of each score before the softmax. */
  readonly scoreVariance: Float64Array;
  readonly overflow: boolean;
}

function uniformRow(count: number, noise: boolean): SoftmaxRow {
  return {
    p: new Float64Array(count).fill(1 / count),
    scoreVariance: new Float64Array(noise ? count : 0),
    overflow: false,
  };
}

function softmaxRow(
  { arithmetic, precision, noise }: OpContext,
  a: AttentionAttributes,
  q: Block,
  qStart: number,
  keys: Block,
  keyHead: number,
  positions: readonly number[],
): SoftmaxRow {
  const { headDim, scale, softCap } = a;
  const keyWidth = a.keyValueHeads * headDim;
  const p = new Float64Array(positions.length);
  const scoreVariance = new Float64Array(noise ? positions.length : 0);
  const operand = noise ? operandVariance(precision) : 0;
  let overflow = false;
  let largest = -Infinity;
  for (let j = 0; j < positions.length; j++) {
    const kStart = positions[j]! * keyWidth + keyHead * headDim;
    const dot = arithmetic.between(arithmetic.dot(q.value, qStart, keys.value, kStart, headDim));
    let score = arithmetic.between(dot * scale);
    let slope = 1;
    if (softCap) {
      const t = Math.tanh(score / softCap);
      score = softCap * t;
      slope = 1 - t * t;
    }
    p[j] = score;
    if (score > largest) largest = score;
    if (!noise) continue;
    let variance = 0;
    let squares = 0;
    for (let d = 0; d < headDim; d++) {
      const x = q.value[qStart + d]!;
      const y = keys.value[kStart + d]!;
      squares += x * x * y * y;
      const vx = usableVariance(q, qStart + d);
      const vy = usableVariance(keys, kStart + d);
      if (vx !== 0 && y !== 0) variance += y * y * vx;
      if (vy !== 0 && x !== 0) variance += x * x * vy;
    }
    if (squares > float32Max) overflow = true;
    variance += squares * (operand + computeVariance * headDim) + storeVariance(dot, precision.store);
    scoreVariance[j] = slope * slope * (variance * scale * scale + storeVariance(score, precision.store));
  }
  let total = a.sink === undefined ? 0 : Math.exp(a.sink - largest);
  for (let j = 0; j < p.length; j++) {
    p[j] = Math.exp(p[j]! - largest);
    total += p[j]!;
  }
  for (let j = 0; j < p.length; j++) p[j] = arithmetic.between(arithmetic.compute(p[j]! / total));
  return { p, scoreVariance, overflow };
}

function weightedSum(
  { precision, noise }: OpContext,
  { p, scoreVariance, overflow }: SoftmaxRow,
  values: Block,
  channel: number,
  keyWidth: number,
  positions: readonly number[],
  out: ReturnType<typeof emptyBlock>,
  at: number,
): void {
  let sum = 0;
  for (let j = 0; j < p.length; j++) {
    // A masked or vanishing probability does not multiply what the cache holds there: 0 · NaN would be NaN.
    if (p[j] !== 0) sum += p[j]! * values.value[positions[j]! * keyWidth + channel]!;
  }
  out.value[at] = sum;
  if (!noise) return;
  const operand = operandVariance(precision);
  let variance = 0;
  for (let j = 0; j < p.length; j++) {
    const pj = p[j]!;
    if (pj === 0) continue;
    const i = positions[j]! * keyWidth + channel;
    const v = values.value[i]!;
    const deviation = v - sum;
    const stored = storeVariance(pj, precision.store) + pj * pj * (operand + computeVariance * (4 + p.length));
    variance += v * v * stored + pj * pj * usableVariance(values, i);
    if (scoreVariance[j]! > 0 && deviation !== 0) {
      // Beyond first order a probability cannot move by more than itself and its complement.
      const shift = Math.min(scoreVariance[j]!, 1);
      variance += pj * pj * deviation * deviation * (scoreVariance[j] === Infinity ? Infinity : shift);
    }
  }
  out.variance[at] = variance;
  if (overflow) {
    out.range ??= new Uint8Array(out.value.length);
    out.range[at] = mayBe.zero | mayBe.infinite | mayBe.notANumber;
  }
}
