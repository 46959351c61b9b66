import { type DType, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  float32Max,
  functionVariance,
  longerPath,
  matrixVariance,
  operandVariance,
  storeVariance,
  tf32Format,
} from "../noise.js";
import {
  type Block,
  type MutableBlock,
  type OpContext,
  type OpRounding,
  raiseJump,
  scaled,
  usableVariance,
} from "../op.js";
import type { AttentionAttributes } from "./attention.js";
import { type AttentionRounding, float32Attention } from "./attention-recipes.js";
import { fastExponential } from "./exponential.js";
import { mergeFactors, narrowWeights } from "./softmax-rewrites.js";

/** One query head over its visible keys: the output is Σ weight_j · value_j / total. */
export interface SoftmaxRow {
  readonly weight: Float64Array;
  readonly total: number;
  /** Variance of each weight as it multiplies the values. */
  readonly weightVariance: Float64Array;
  /** Largest error of a weight that one flipped rounding causes. */
  readonly weightJump: Float64Array;
  /** Variance of the total, apart from what it shares with the weights. */
  readonly totalVariance: number;
  /** Whether the errors of the weights are those of the total as well, so that they cancel in part. */
  readonly shared: boolean;
  readonly overflow: boolean;
}

/** All keys alike: what a mask of one finite value everywhere makes of a row. */
export function uniformRow(count: number, noise: boolean): SoftmaxRow {
  return {
    weight: new Float64Array(count).fill(1 / count),
    total: 1,
    weightVariance: new Float64Array(noise ? count : 0),
    weightJump: new Float64Array(noise ? count : 0),
    totalVariance: 0,
    shared: false,
    overflow: false,
  };
}

/** Whether the operands of the product with the keys ("scores") or the values are rounded to TF32. */
export function isTf32(rounding: OpRounding | undefined, product: "scores" | "values"): boolean {
  const tf32 = rounding?.settings.tf32;
  return tf32 === "both" || tf32 === product;
}

/** Keys per vector of the fast exponential. */
const lanes = 16;

/**
 * How many of the first keys go through the fast exponential: those of whole vectors, counted from the start of their tile.
 * A prefill attends in blocks of queries, each over the keys up to the block's last query.
 */
function wholeVectors({ index, queries, keyCount }: Query, positions: readonly number[], tile: number): number {
  const block = queries >= 768 ? 256 : queries >= 192 ? 64 : 32;
  const count = keyCount > queries ? keyCount : Math.min((Math.floor(index / block) + 1) * block, keyCount);
  const last = Math.floor((count - 1) / tile) * tile;
  const end = last + Math.floor((count - last) / lanes) * lanes;
  const first = positions.findIndex((position) => position >= end);
  return first < 0 ? positions.length : first;
}

/** One head of one query. */
interface Query {
  readonly row: number;
  readonly block: Block;
  readonly start: number;
  readonly head: number;
  /** Its place in its sequence. */
  readonly position: number;
  /** Its place among the `queries` that its sequence has in the step. */
  readonly index: number;
  readonly queries: number;
  /** Keys of its sequence after the step, visible or not. */
  readonly keyCount: number;
}

/** Softmax of one query head over the keys at `positions`, rounded where the recipe says. */
export function softmaxRow(
  context: OpContext,
  a: AttentionAttributes,
  query: Query,
  keys: Block,
  keyHead: number,
  positions: readonly number[],
): SoftmaxRow {
  const { noise, rounding } = context;
  const settings = { ...float32Attention, ...rounding?.settings } as AttentionRounding;
  const scored = scoresOf(context, a, settings, query, keys, keyHead, positions);
  const { scores } = scored;
  const maxima = runningMaxima(scores, positions, settings, query.keyCount);
  // A sink is a score like the others: the running maximum begins with it.
  const last = Math.max(maxima.last, a.sink ?? -Infinity);
  if (a.sink !== undefined) for (let j = 0; j < scores.length; j++) maxima.of[j] = Math.max(maxima.of[j]!, a.sink);
  const store = rounding?.store ?? context.precision.store;
  const { compute } = context.arithmetic;
  const whole = settings.fastExponential ? wholeVectors(query, positions, settings.tile) : 0;
  const unrounded = scores.map((score, j) => {
    const exponent = score - maxima.of[j]!;
    return j < whole ? fastExponential(exponent) : compute(Math.exp(exponent));
  });
  const normalised = settings.weights === "probabilities";
  const { factor, narrow, merge } = a.rewrite ?? {};
  const weight = unrounded.slice();
  if (factor && !normalised)
    for (let j = 0; j < weight.length; j++) weight[j]! *= factor(query.row, query.head, positions[j]!);
  if (settings.weights === "exponentials") roundAll(weight, store);
  if (narrow && !normalised) narrowWeights(weight, narrow);
  const rescale = maxima.of.map((maximum) => (maximum === last ? 1 : Math.exp(maximum - last)));
  const summands = settings.roundedSum && !factor ? weight : unrounded;
  let total = a.sink === undefined ? 0 : Math.exp(a.sink - last);
  for (let j = 0; j < scores.length; j++) total += summands[j]! * rescale[j]!;
  const parts =
    merge &&
    mergeFactors(merge, {
      scores,
      positions,
      keyCount: query.keyCount,
      summand: (j) => summands[j]! * rescale[j]!,
      last,
    });
  if (normalised) {
    for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]! / total;
    unrounded.set(weight);
    roundAll(weight, store);
    if (factor) {
      for (let j = 0; j < weight.length; j++) weight[j]! *= factor(query.row, query.head, positions[j]!);
      roundAll(weight, store);
    }
    if (narrow) narrowWeights(weight, narrow);
  }
  if (isTf32(rounding, "values")) roundToFormat(weight, tf32Format);
  if (!normalised) for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]!;
  if (parts) for (let j = 0; j < weight.length; j++) weight[j]! *= parts.factors[j]! * (normalised ? total : 1);
  const divisor = parts ? parts.total : normalised ? 1 : total;
  const spread = noise ? weightNoise(context, settings, scored, unrounded, rescale, total) : noSpread;
  return { weight, total: divisor, overflow: scored.overflow, ...spread };
}

const nothing = new Float64Array(0);
const noSpread = { weightVariance: nothing, weightJump: nothing, totalVariance: 0, shared: false };

/** A changed copy of an array, made once: all heads of a row share their operands. */
function remembered(change: (copy: Float64Array) => void, copies: WeakMap<Float64Array, Float64Array>) {
  return (values: Float64Array): Float64Array => {
    let copy = copies.get(values);
    if (!copy) {
      copy = values.slice();
      change(copy);
      copies.set(values, copy);
    }
    return copy;
  };
}

/** Operands as tensor cores take them. */
export const asTf32 = remembered((copy) => roundToFormat(copy, tf32Format), new WeakMap());

const scaledCopies = new Map<string, (values: Float64Array) => Float64Array>();

function scaledBy(values: Float64Array, factor: number, store: DType): Float64Array {
  const key = `${factor} ${store}`;
  let scale = scaledCopies.get(key);
  if (!scale) {
    scale = remembered((copy) => {
      for (let i = 0; i < copy.length; i++) copy[i]! *= factor;
      roundAll(copy, store);
    }, new WeakMap());
    scaledCopies.set(key, scale);
  }
  return scale(values);
}

interface Scores {
  readonly scores: Float64Array;
  /** Variance of each score; empty without noise. */
  readonly variance: Float64Array;
  readonly jump: Float64Array;
  readonly overflow: boolean;
}

function scoresOf(
  { arithmetic, precision, noise, rounding }: OpContext,
  a: AttentionAttributes,
  settings: AttentionRounding,
  query: Query,
  keys: Block,
  keyHead: number,
  positions: readonly number[],
): Scores {
  const { headDim, softCap } = a;
  const keyWidth = a.keyValueHeads * headDim;
  const count = positions.length;
  const scores = new Float64Array(count);
  const variance = new Float64Array(noise ? count : 0);
  const jump = new Float64Array(noise ? count : 0);
  let q = query.block.value;
  let k = keys.value;
  let qStart = query.start;
  let scale = a.scale;
  if (settings.scaledHalves) {
    q = scaledBy(q, Math.fround(Math.sqrt(scale)), rounding!.store);
    k = scaledBy(k, Math.fround(Math.sqrt(scale)), rounding!.store);
    scale = 1;
  }
  const tf32 = isTf32(rounding, "scores");
  if (tf32) {
    q = asTf32(q);
    k = asTf32(k);
  }
  if (settings.scaledQuery) {
    q = q.slice(qStart, qStart + headDim).map((x) => x * scale);
    roundAll(q, rounding!.store);
    qStart = 0;
    scale = 1;
  }
  for (let j = 0; j < count; j++) {
    scores[j] = arithmetic.dot(q, qStart, k, positions[j]! * keyWidth + keyHead * headDim, headDim);
  }
  let overflow = false;
  if (noise) {
    const operand = rounding ? 0 : operandVariance(precision);
    const matrix = precision.store !== "float32" || precision.compute === "tf32";
    for (let j = 0; j < count; j++) {
      const kStart = positions[j]! * keyWidth + keyHead * headDim;
      let reaching = 0;
      let squares = 0;
      let sum = 0;
      let partials = 0;
      let partialSquares = 0;
      let largest = 0;
      for (let d = 0; d < headDim; d++) {
        const x = q[qStart + d]!;
        const y = k[kStart + d]!;
        squares += x * x * y * y;
        sum += x * y;
        partials += sum;
        partialSquares += sum * sum;
        const vx = usableVariance(query.block, query.start + d);
        const vy = usableVariance(keys, kStart + d);
        if (vx !== 0 && y !== 0) reaching += y * y * vx;
        if (vy !== 0 && x !== 0) reaching += x * x * vy;
        if (query.block.jump) largest = Math.max(largest, Math.abs(y) * query.block.jump[query.start + d]!);
        if (settings.scaledHalves) {
          // The root of the scale is a float32 number: products near a boundary may be rounded either way.
          const format = tf32 ? tf32Format : precision.store;
          const ofX = flipVariance(x, x * x * 4 * computeVariance, format);
          const ofY = flipVariance(y, y * y * 4 * computeVariance, format);
          reaching += y * y * ofX + x * x * ofY;
          if (tf32 && ofX > 0) largest = Math.max(largest, Math.abs(y) * unitInLastPlace(x, tf32Format));
          if (tf32 && ofY > 0) largest = Math.max(largest, Math.abs(x) * unitInLastPlace(y, tf32Format));
        }
        if (keys.jump) largest = Math.max(largest, Math.abs(x) * keys.jump[kStart + d]!);
      }
      if (squares > float32Max) overflow = true;
      const path = longerPath(sum, headDim, partials, partialSquares);
      const summed = (matrix ? matrixVariance : accumulationVariance)(sum, squares, headDim, path);
      variance[j] = reaching + squares * operand + summed;
      jump[j] = largest;
    }
  }
  const stored = () => {
    if (noise)
      for (let j = 0; j < count; j++) storeNoise(scores, variance, jump, j, precision.store, rounding !== undefined);
    if (rounding) roundAll(scores, rounding.store);
  };
  if (settings.scores || !rounding) stored();
  for (let j = 0; j < count; j++) {
    scores[j]! *= scale;
    if (!noise) continue;
    variance[j]! *= scale * scale;
    jump[j]! *= Math.abs(scale);
  }
  if (settings.scaled || !rounding) stored();
  for (let j = 0; j < count; j++) {
    if (softCap) {
      const t = Math.tanh(scores[j]! / softCap);
      scores[j] = softCap * t;
      if (noise) variance[j]! *= (1 - t * t) ** 2;
    }
    if (a.scoreBias) scores[j]! += a.scoreBias(query.head, query.position - positions[j]!);
  }
  return { scores, variance, jump, overflow };
}

function storeNoise(
  scores: Float64Array,
  variance: Float64Array,
  jump: Float64Array,
  j: number,
  store: OpContext["precision"]["store"],
  emulated: boolean,
): void {
  if (!emulated) {
    variance[j]! += storeVariance(scores[j]!, store);
    return;
  }
  variance[j] = flipVariance(scores[j]!, variance[j]!, store);
  const format = floatFormat(store);
  if (variance[j]! > 0 && format) jump[j] = Math.max(jump[j]!, unitInLastPlace(scores[j]!, format));
}

/** The maximum each key is exponentiated against, and the last one, which everything is scaled to. */
function runningMaxima(
  scores: Float64Array,
  positions: readonly number[],
  { tile, descending, parts }: AttentionRounding,
  keyCount: number,
): { of: Float64Array; last: number } {
  const of = new Float64Array(scores.length);
  let running = -Infinity;
  if (parts > 1) {
    for (let p = 0; p < parts; p++) {
      const first = Math.floor((keyCount * p) / parts);
      const end = Math.floor((keyCount * (p + 1)) / parts);
      const inside = (j: number) => positions[j]! >= first && positions[j]! < end;
      let most = -Infinity;
      for (let j = 0; j < scores.length; j++) if (inside(j) && scores[j]! > most) most = scores[j]!;
      for (let j = 0; j < scores.length; j++) if (inside(j)) of[j] = most;
      running = Math.max(running, most);
    }
    return { of, last: running };
  }
  if (tile === 0 || scores.length === 0) {
    for (const score of scores) if (score > running) running = score;
    of.fill(running);
    return { of, last: running };
  }
  const first = Math.floor(positions[0]! / tile);
  const count = Math.floor(positions.at(-1)! / tile) - first + 1;
  // Positions rise, so that a tile is a range of keys.
  const bounds = [0];
  for (let j = 1; j < scores.length; j++)
    while (Math.floor(positions[j]! / tile) - first >= bounds.length) bounds.push(j);
  bounds.push(scores.length);
  for (let i = 0; i < count; i++) {
    const t = descending ? count - 1 - i : i;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) if (scores[j]! > running) running = scores[j]!;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) of[j] = running;
  }
  return { of, last: running };
}

/**
 * What uncertain scores make of the weights, and which of them may have been rounded the other way.
 * @param unrounded exponentials or probabilities before they are rounded.
 */
function weightNoise(
  { precision, rounding }: OpContext,
  settings: AttentionRounding,
  { scores, variance, jump }: Scores,
  unrounded: Float64Array,
  rescale: Float64Array,
  total: number,
): Pick<SoftmaxRow, "weightVariance" | "weightJump" | "totalVariance" | "shared"> {
  const count = scores.length;
  const weightVariance = new Float64Array(count);
  const weightJump = new Float64Array(count);
  const largest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const store = rounding?.store ?? precision.store;
  const format = floatFormat(store);
  const operand = rounding ? 0 : operandVariance(precision);
  const normalised = settings.weights === "probabilities";
  let totalVariance = normalised ? 0 : total * total * computeVariance * (count + 4);
  const relatives = scores.map((score, j) => {
    // The exponent is a difference of products that are rounded in float32.
    const exponent = 4 * computeVariance * ((score - largest) ** 2 + largest ** 2);
    // A flipped score moves its exponential by e^jump.
    const steep = jump[j]! > 0 ? (Math.expm1(Math.min(jump[j]!, 30)) / jump[j]!) ** 2 : 1;
    return Math.min(variance[j]! * steep, variance[j] === Infinity ? Infinity : 1) + exponent + functionVariance;
  });
  // What moves one exponential moves the sum that divides them all.
  const ofSum = relatives.reduce((sum, relative, j) => sum + scaled(unrounded[j]! ** 2, relative), 0);
  for (let j = 0; j < count; j++) {
    const w = unrounded[j]!;
    const factor = normalised ? 1 : rescale[j]!;
    const relative = normalised ? relatives[j]! + ofSum + computeVariance * count + functionVariance : relatives[j]!;
    const smooth = scaled(w * w, relative);
    let own = smooth;
    let ofWeight = Math.min(total, w * Math.expm1(Math.min(jump[j]!, 30)));
    if (!rounding) own += storeVariance(w, store) + w * w * (operand + computeVariance * (4 + count));
    else if (settings.weights !== "float32") {
      own = flipVariance(w, smooth, store);
      if (own > 0 && format) ofWeight = Math.max(ofWeight, unitInLastPlace(w, format));
    }
    if (isTf32(rounding, "values")) {
      own = flipVariance(w, own, tf32Format);
      if (own > 0) ofWeight = Math.max(ofWeight, unitInLastPlace(w, tf32Format));
    }
    weightVariance[j] = own * factor * factor;
    weightJump[j] = ofWeight * factor;
    if (!normalised) totalVariance += (settings.roundedSum ? own : smooth) * factor * factor;
  }
  const shared = !rounding || settings.weights === "float32";
  return { weightVariance, weightJump, totalVariance: shared ? 0 : totalVariance, shared };
}

interface Values {
  value(j: number): number;
  variance(j: number): number;
  jump(j: number): number;
}

/** Noise of one output element: its weights, its values, the sum of their products, the division. */
export function valueNoise(context: OpContext, row: SoftmaxRow, out: MutableBlock, at: number, values: Values): void {
  const { precision, rounding } = context;
  const { weight, total, weightVariance, weightJump } = row;
  if (total === 0) return;
  const result = out.value[at]!;
  let variance = 0;
  let squares = 0;
  let sum = 0;
  let partials = 0;
  let partialSquares = 0;
  let jump = 0;
  for (let j = 0; j < weight.length; j++) {
    const w = weight[j]!;
    if (w === 0) continue;
    const v = values.value(j);
    const own = values.variance(j);
    // A weight that the total contains too moves the result only as far as its value differs from it.
    const lever = row.shared ? v - result : v;
    const ofWeight = weightVariance[j]!;
    if (lever !== 0 && ofWeight !== 0) variance += lever * lever * ofWeight;
    if (own !== 0) variance += w * w * own;
    squares += w * w * v * v;
    sum += w * v;
    partials += sum;
    partialSquares += sum * sum;
    jump = Math.max(jump, Math.abs(lever) * weightJump[j]!, w * values.jump(j));
  }
  if (!rounding) {
    // Rounding of single probabilities does not cancel in the division.
    for (let j = 0; j < weight.length; j++) variance += storeVariance(weight[j]!, precision.store) * result * result;
  }
  const n = weight.length;
  const matrix = precision.store !== "float32" || precision.compute === "tf32";
  const path = longerPath(sum, n, partials, partialSquares);
  const summed = (matrix ? matrixVariance : accumulationVariance)(sum, squares, n, path);
  const divided = result * result * (row.totalVariance + total * total * (functionVariance + computeVariance * n));
  out.variance[at] = (variance + summed + divided) / (total * total);
  raiseJump(out, at, jump / total);
}
