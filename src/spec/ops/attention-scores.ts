import { type DType, type FloatFormat, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { operandFormat } from "../narrow-operands.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  float32Max,
  longerPath,
  matrixVariance,
  operandVariance,
  storeVariance,
} from "../noise.js";
import { type Block, type OpContext, type OpRounding, usableVariance } from "../op.js";
import type { AttentionAttributes } from "./attention.js";
import type { AttentionRounding } from "./attention-recipes.js";
import { capAll } from "./soft-cap.js";

/** The format that the operands of the product with the keys ("scores") or the values are rounded to; undefined for none. */
export function narrowFormat(rounding: OpRounding | undefined, product: "scores" | "values"): FloatFormat | undefined {
  const narrowed = rounding?.settings.narrowed;
  return narrowed === "both" || narrowed === product ? operandFormat(rounding?.settings) : undefined;
}

/** One head of one query. */
export interface Query {
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
  /** Columns of keys that a masked kernel runs over, padding and free ones among them; undefined without a mask. */
  readonly keyColumns: number | undefined;
  /** Column of each visible key: its place in the sequence, but for padding before it. */
  readonly columns: readonly number[];
}

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

const narrowCopies = new Map<FloatFormat, (values: Float64Array) => Float64Array>();

/** Operands as tensor cores take them. */
export function narrowed(values: Float64Array, format: FloatFormat): Float64Array {
  let narrow = narrowCopies.get(format);
  if (!narrow) {
    narrow = remembered((copy) => roundToFormat(copy, format), new WeakMap());
    narrowCopies.set(format, narrow);
  }
  return narrow(values);
}

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

/** Whether rising positions have no gaps; not of none. */
export function areNeighbours(positions: readonly number[]): boolean {
  const { length } = positions;
  return length > 0 && positions[length - 1]! - positions[0]! === length - 1;
}

/** Scaled scores of one query head. */
export interface Scores {
  readonly scores: Float64Array;
  /** Variance of each score; empty without noise. */
  readonly variance: Float64Array;
  readonly jump: Float64Array;
  readonly overflow: boolean;
}

/** q · k of one query head and the keys at `positions`, scaled, capped and biased, rounded where the recipe says. */
export function scoresOf(
  context: OpContext,
  a: AttentionAttributes,
  settings: AttentionRounding,
  query: Query,
  keys: Block,
  keyHead: number,
  positions: readonly number[],
): Scores {
  const { arithmetic, precision, noise, rounding } = context;
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
  const narrow = narrowFormat(rounding, "scores");
  if (narrow) {
    q = narrowed(q, narrow);
    k = narrowed(k, narrow);
  }
  if (settings.scaledQuery) {
    q = q.slice(qStart, qStart + headDim).map((x) => x * scale);
    roundAll(q, rounding!.store);
    qStart = 0;
    scale = 1;
  }
  const first = keyHead * headDim;
  if (areNeighbours(positions)) {
    const rows = { values: k, first: positions[0]! * keyWidth + first, stride: keyWidth, count, length: headDim };
    arithmetic.dots(q, qStart, rows, scores);
  } else
    for (let j = 0; j < count; j++) scores[j] = arithmetic.dot(q, qStart, k, positions[j]! * keyWidth + first, headDim);
  let overflow = false;
  if (noise) {
    const operand = rounding ? 0 : operandVariance(precision);
    const matrix = precision.store !== "float32" || precision.compute === "tf32" || narrow !== undefined;
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
          const format = narrow ?? precision.store;
          const ofX = flipVariance(x, x * x * 4 * computeVariance, format);
          const ofY = flipVariance(y, y * y * 4 * computeVariance, format);
          reaching += y * y * ofX + x * x * ofY;
          if (narrow && ofX > 0) largest = Math.max(largest, Math.abs(y) * unitInLastPlace(x, narrow));
          if (narrow && ofY > 0) largest = Math.max(largest, Math.abs(x) * unitInLastPlace(y, narrow));
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
  if (softCap) {
    capAll(context, { value: scores, variance, jump }, softCap, settings.capped);
    if (settings.capped || !rounding) stored();
  }
  if (a.scoreBias)
    for (let j = 0; j < count; j++) scores[j]! += a.scoreBias(query.head, query.position - positions[j]!);
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
  variance[j] = flipVariance(scores[j]!, variance[j]!, store, jump[j]);
  const format = floatFormat(store);
  if (variance[j]! > 0 && format) jump[j] = Math.max(jump[j]!, unitInLastPlace(scores[j]!, format));
}
