import { addWeightedInPlace } from "../../tensor/spaced-rows.js";
import {
  type Block,
  emptyBlock,
  indices,
  type MutableBlock,
  mayBe,
  type Op,
  type OpContext,
  usableVariance,
} from "../op.js";
import { valueNoise } from "./attention-noise.js";
import { attentionRecipes } from "./attention-recipes.js";
import { areNeighbours, narrowed, narrowFormat, type Query } from "./attention-scores.js";
import { type SoftmaxRow, softmaxRow, uniformRow } from "./softmax.js";
import type { SoftmaxRewrite } from "./softmax-rewrites.js";

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
  /** A logit that joins the softmax's denominator and has no value (attention sink), or the parameter [heads] that holds one per head. */
  readonly sink?: number | string | undefined;
  /**
   * What a row without visible keys gives: 0 (FlashInfer), the mean of all values (a finite mask value everywhere), or its
   * own value.
   */
  readonly emptyRow?: "zero" | "mean" | "self";
  /** Row whose sequence's keys a row attends over; its own unless a rewrite says otherwise. */
  readonly keysFrom?: (row: number) => number;
  /** Whether a query may see the key at `position`, on top of the rules above. */
  readonly visible?: (row: number, position: number, keyCount: number) => boolean;
  /** Added to the scaled score of a key `distance` positions before the query (ALiBi). */
  readonly scoreBias?: (head: number, distance: number) => number;
  /** What happens to exponentials on their way to the values, where a rewrite says so. */
  readonly rewrite?: SoftmaxRewrite;
}

/**
 * softmax(scale · q Kᵀ + mask) V per row over the keys of the row's own sequence, paged or not: inputs q, keys, values,
 * [rows, heads × head_dim]. A row without visible keys gives 0 (FlashInfer). Vaswani et al., 2017; GQA: Ainslie et al., 2023.
 */
export function attention(attributes: AttentionAttributes): Op {
  return {
    kind: "attention",
    attributes: { ...attributes },
    recipes: attentionRecipes,
    evaluate(context, rows, columns) {
      const q = context.input(0, rows);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      for (const group of sequences(context, rows, attributes.keysFrom)) {
        const step = context.rows.stepOf[group.first]!;
        const keyCount = group.keyRows.length;
        const visible = group.members.map((r) => visiblePositions(context, attributes, rows[r]!, keyCount));
        const keyRows = group.keyRows.subarray(0, reach(context, attributes, visible, keyCount));
        const keys = context.input(1, keyRows, undefined, step);
        const read = context.input(2, keyRows, undefined, step);
        const narrow = narrowFormat(context.rounding, "values");
        const values = narrow ? { ...read, value: narrowed(read.value, narrow) } : read;
        const operands = { q, keys, values, keyCount, out };
        group.members.forEach((r, i) => {
          attendRow(context, attributes, operands, rows[r]!, r, visible[i]!, columns);
        });
      }
      return out;
    },
  };
}

interface Operands {
  q: Block;
  keys: Block;
  values: Block;
  /** Keys of the sequence after the step; `keys` and `values` end where no row looks further. */
  keyCount: number;
  out: MutableBlock;
}

/** How many of a sequence's keys have to be known: with noise all, since masked ones may still spoil a tile. */
function reach(
  { noise }: OpContext,
  { emptyRow }: AttentionAttributes,
  visible: readonly (readonly number[])[],
  keyCount: number,
): number {
  if (noise || (emptyRow && visible.some((positions) => positions.length === 0))) return keyCount;
  return visible.reduce((most, positions) => Math.max(most, (positions.at(-1) ?? -1) + 1), 0);
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

/** Where a row stands among its sequence's rows of the step, how many those are, and where its keys lie. */
function placeInStep(
  { rows: table }: OpContext,
  row: number,
  positions: readonly number[],
  keyCount: number,
): Pick<Query, "index" | "queries" | "columns" | "keyColumns"> {
  const step = table.steps[table.stepOf[row]!]!;
  const b = table.sequenceOf[row]!;
  return {
    index: row - step.firstRow - step.qoIndptr[b]!,
    queries: step.qoIndptr[b + 1]! - step.qoIndptr[b]!,
    keyColumns: step.keyColumns !== undefined && step.keyColumns >= keyCount ? step.keyColumns : undefined,
    columns: table.isPadded ? positions.map((position) => table.columnOfKey(row, position)) : positions,
  };
}

function attendRow(
  context: OpContext,
  a: AttentionAttributes,
  operands: Operands,
  row: number,
  r: number,
  visible: readonly number[],
  columns: Int32Array,
) {
  const { q, keys, values, keyCount: count, out } = operands;
  const { headDim, heads, keyValueHeads } = a;
  const queryWidth = heads * headDim;
  const keyWidth = keyValueHeads * headDim;
  let positions = visible;
  const masked = positions.length === 0 && a.emptyRow === "mean";
  if (masked) positions = Array.from(indices(count));
  const own = context.rows.position[row]!;
  if (positions.length === 0 && a.emptyRow === "self") positions = [own];
  const reached = context.noise ? brokenHeads(keys.value, values.value, own, headDim, keyValueHeads) : undefined;
  const place = placeInStep(context, row, positions, count);
  for (let c = 0, end = 0; c < columns.length; c = end) {
    const head = Math.floor(columns[c]! / headDim);
    while (end < columns.length && Math.floor(columns[end]! / headDim) === head) end++;
    const keyHead = a.keyHeadOf?.(head) ?? Math.floor((head * keyValueHeads) / heads);
    const valueHead = (a.valueHeadOf ?? a.keyHeadOf)?.(head) ?? Math.floor((head * keyValueHeads) / heads);
    const query = {
      row,
      block: q,
      start: r * queryWidth + head * headDim,
      head,
      position: own,
      ...place,
      keyCount: count,
    };
    const weights = masked ? uniformRow(count, context.noise) : softmaxRow(context, a, query, keys, keyHead, positions);
    const channels = columns.subarray(c, end).map((column) => valueHead * headDim + (column % headDim));
    const at = r * columns.length + c;
    mix(weights, values.value, positions, keyWidth, channels, out.value, at);
    if (context.noise) {
      channels.forEach((channel, i) => {
        elementNoise(context, weights, values, positions, keyWidth, channel, reached?.has(valueHead), out, at + i);
      });
    }
  }
}

/** Σ weight_j · value_j / total of each channel. */
function mix(
  { weight, total }: SoftmaxRow,
  values: Float64Array,
  positions: readonly number[],
  keyWidth: number,
  channels: Int32Array,
  out: Float64Array,
  at: number,
): void {
  if (total === 0) return;
  const count = channels.length;
  const first = channels[0]!;
  const whole = channels[count - 1]! - first === count - 1;
  const rows = {
    values,
    first: positions[0]! * keyWidth + first,
    stride: keyWidth,
    count: weight.length,
    length: count,
  };
  if (whole && areNeighbours(positions) && addWeightedInPlace(weight, rows, out, at)) {
    for (let i = 0; i < count; i++) out[at + i]! /= total;
    return;
  }
  for (let j = 0; j < weight.length; j++) {
    const w = weight[j]!;
    // A masked or vanishing probability does not multiply what the cache holds there: 0 · NaN would be NaN.
    if (w === 0) continue;
    const from = positions[j]! * keyWidth;
    if (whole) for (let i = 0; i < count; i++) out[at + i]! += w * values[from + first + i]!;
    else for (let i = 0; i < count; i++) out[at + i]! += w * values[from + channels[i]!]!;
  }
  for (let i = 0; i < count; i++) out[at + i]! /= total;
}

function elementNoise(
  context: OpContext,
  weights: SoftmaxRow,
  values: Block,
  positions: readonly number[],
  keyWidth: number,
  channel: number,
  isReached: boolean | undefined,
  out: MutableBlock,
  at: number,
): void {
  const element = (j: number) => positions[j]! * keyWidth + channel;
  valueNoise(context, weights, out, at, {
    value: (j) => values.value[element(j)]!,
    variance: (j) => usableVariance(values, element(j)),
    jump: (j) => values.jump?.[element(j)] ?? 0,
  });
  if (!weights.overflow && !isReached) return;
  out.range ??= new Uint8Array(out.value.length);
  out.range[at] = weights.overflow ? mayBe.zero | mayBe.infinite | mayBe.notANumber : mayBe.notANumber;
}

/**
 * Heads in which a later token's key or value is NaN or infinite: a kernel that computes whole tiles multiplies it by a
 * masked weight of 0.
 */
function brokenHeads(
  keys: Float64Array,
  values: Float64Array,
  own: number,
  headDim: number,
  keyValueHeads: number,
): ReadonlySet<number> | undefined {
  let out: Set<number> | undefined;
  for (let i = (own + 1) * keyValueHeads * headDim; i < values.length; i++) {
    // x - x is 0 of every finite number.
    if (values[i]! - values[i]! === 0 && keys[i]! - keys[i]! === 0) continue;
    out ??= new Set();
    out.add(Math.floor(i / headDim) % keyValueHeads);
  }
  return out;
}
