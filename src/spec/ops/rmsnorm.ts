import { type DType, floatFormat, roundTo, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  float32Max,
  functionVariance,
  longerPath,
  stagnation,
  storeVariance,
} from "../noise.js";
import { emptyBlock, type MutableBlock, mayBe, type Op, type OpContext, raiseJump, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";

export interface RmsNormAttributes {
  /** Parameter [width]; undefined for a norm without weight. */
  readonly weight: string | undefined;
  readonly epsilon: number;
  /** Channels normalised together: head_dim for QK-norm, else the whole row. */
  readonly width: number;
  /** Channels of the weight where a rewrite normalises fewer of them together. */
  readonly weightWidth?: number;
  /** What is added to the weight (Gemma-style weights are stored minus one). */
  readonly weightOffset?: number;
  /** Whether the weight with its offset is stored before it multiplies. */
  readonly storedOffset?: boolean;
  /** Subtract the mean first (LayerNorm). */
  readonly centred?: boolean;
  /** Divisor of Σx² where it is not `width` (padding counted in, or an unfilled tail). */
  readonly divisor?: number;
  /** Channels the mean of squares is taken over, `width` unless a rewrite says otherwise: a multiple joins several heads. */
  readonly meanWidth?: number;
  /** First channels of a group that the mean of squares is taken over, all unless a rewrite says otherwise. */
  readonly meanOver?: number;
  /** Largest Σx² the accumulator holds; beyond it the norm gives 0. Infinite unless a rewrite says otherwise. */
  readonly sumLimit?: number;
  /** Relative one-sigma error of the accumulator on top of float32's. */
  readonly sumError?: number;
  /**
   * Squares, their mean and its inverse root are stored in the type between ops, where a rewrite says so: the root computed
   * at once, or as a stored root and its reciprocal.
   */
  readonly storedStatistics?: "rsqrt" | "sqrt";
}

/** Where RMSNorm rounds: `normalised` says whether x / rms is stored before the weight multiplies it. */
export const rmsNormRecipes: readonly Recipe[] = [
  {
    id: "rounded-before-weight",
    title: "x / rms is rounded before the weight multiplies it",
    known: ["Hugging Face"],
    settings: { normalised: true },
  },
  {
    id: "one-rounding",
    title: "the weight multiplies in float32, one rounding at the end",
    known: ["FlashInfer", "vLLM", "Faultline's kernels"],
    settings: { normalised: false },
  },
];

/**
 * y = x / sqrt(mean(x²) + ε) · w over groups of `width` channels.
 * Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. x² beyond float32 makes a correct float32 kernel
 * return 0 (rsqrt of infinity) or NaN (infinity times 0): that is `range`, not a fault.
 */
export function rmsNorm(attributes: RmsNormAttributes): Op {
  const { weight, width } = attributes;
  return {
    kind: "rmsnorm",
    attributes: { ...attributes },
    recipes: rmsNormRecipes,
    evaluate(context, rows, columns) {
      const { input, parameters, noise, rounding } = context;
      const inputColumns = context.width(0);
      const x = input(0, rows);
      const weights = weight
        ? offsetWeights(attributes, parameters.rows(weight, 0, 1), context.precision.store)
        : undefined;
      const out = emptyBlock(rows.length * columns.length, noise);
      const groupOf = columns.map((column) => Math.floor(column / width));
      const groups: GroupStatistics[] = [];
      for (let r = 0; r < rows.length; r++) {
        groups.length = 0;
        const from = r * inputColumns;
        const to = r * columns.length;
        for (let c = 0; c < columns.length; ) {
          const first = c;
          const group = groupOf[c]!;
          while (c < columns.length && groupOf[c] === group) c++;
          groups[group] ??= groupStatistics(context, x, from, group, attributes, inputColumns);
          normalise(x.value, from, columns, first, c, groups[group]!, out.value, to);
        }
      }
      if (noise) addNoise();
      if (rounding?.settings.normalised) roundAll(out.value, rounding.store);
      const factors = new Float64Array(columns.length);
      for (let c = 0; c < factors.length; c++) factors[c] = factor(columns[c]!);
      for (let r = 0; r < rows.length; r++) scale(out.value, r * factors.length, factors);
      return out;

      function factor(column: number): number {
        return weights ? weights[column % (attributes.weightWidth ?? width)]! : 1;
      }

      /** From the normalised elements, before they are rounded. */
      function addNoise(): void {
        for (let r = 0; r < rows.length; r++) {
          groups.length = 0;
          for (let c = 0; c < columns.length; c++) {
            const column = columns[c]!;
            const group = Math.floor(column / width);
            groups[group] ??= groupStatistics(context, x, r * inputColumns, group, attributes, inputColumns);
            elementNoise(
              context,
              groups[group]!,
              x,
              r * inputColumns + column,
              factor(column),
              out,
              r * columns.length + c,
            );
          }
        }
      }
    },
  };
}

/** Columns `first` to `end - 1` of those asked for, which lie in one group. */
function normalise(
  x: Float64Array,
  from: number,
  columns: Int32Array,
  first: number,
  end: number,
  { mean, inverse }: GroupStatistics,
  out: Float64Array,
  to: number,
): void {
  for (let c = first; c < end; c++) out[to + c] = (x[from + columns[c]!]! - mean) * inverse;
}

function scale(values: Float64Array, from: number, factors: Float64Array): void {
  for (let c = 0; c < factors.length; c++) values[from + c]! *= factors[c]!;
}

function offsetWeights(
  { weightOffset, storedOffset }: RmsNormAttributes,
  weights: Float64Array,
  store: DType,
): Float64Array {
  if (!weightOffset) return weights;
  const out = weights.map((w) => w + weightOffset);
  if (storedOffset) roundAll(out, store);
  return out;
}

interface GroupStatistics {
  mean: number;
  /** Variance of a mean that is subtracted. */
  meanVariance: number;
  /** 1 / sqrt(mean(x²) + ε). */
  inverse: number;
  /** Relative variance of `inverse`. */
  inverseVariance: number;
  /** Relative size of the largest flip in it; 0: none. */
  inverseJump: number;
  overflow: boolean;
}

type Input = {
  value: Float64Array;
  variance: Float64Array;
  jump?: Float64Array | undefined;
  range?: Uint8Array | undefined;
};

function groupStatistics(
  context: OpContext,
  x: Input,
  rowStart: number,
  group: number,
  attributes: RmsNormAttributes,
  inputColumns: number,
): GroupStatistics {
  const { arithmetic, noise, precision } = context;
  const width = attributes.meanWidth ?? attributes.width;
  const first = rowStart + Math.floor((group * attributes.width) / width) * width;
  const count = Math.min(attributes.meanOver ?? width, rowStart + inputColumns - first);
  let mean = 0;
  if (attributes.centred) mean = arithmetic.sum(x.value, first, count) / count;
  let squares: number;
  if (attributes.storedStatistics) {
    const stored = x.value.slice(first, first + count).map((value) => value * value);
    roundAll(stored, precision.store);
    squares = arithmetic.sum(stored, 0, count);
  } else if (mean === 0) squares = arithmetic.dot(x.value, first, x.value, first, count);
  else {
    const centred = x.value.slice(first, first + count).map((value) => value - mean);
    squares = arithmetic.dot(centred, 0, centred, 0, count);
  }
  const meanSquare = squares / (attributes.divisor ?? count);
  const root = attributes.storedStatistics
    ? storedRoot(meanSquare, attributes, precision.store)
    : arithmetic.compute(1 / Math.sqrt(meanSquare + attributes.epsilon));
  const inverse = squares > (attributes.sumLimit ?? Infinity) ? 0 : root;
  let inverseVariance = 0;
  let inverseJump = 0;
  const meanVariance = noise && attributes.centred ? sumVariance(x.value, first, count) / count ** 2 : 0;
  if (noise) {
    let weighted = 0;
    let fourth = 0;
    let partial = 0;
    let partials = 0;
    let partialSquares = 0;
    for (let i = first; i < first + count; i++) {
      const square = x.value[i]! * x.value[i]!;
      const variance = usableVariance(x, i);
      if (variance !== 0 && square !== 0) weighted += square * variance;
      fourth += square * square;
      partial += square;
      partials += partial;
      partialSquares += partial * partial;
    }
    const path = longerPath(partial, count, partials, partialSquares);
    const lost = stagnation(squares, count, (k) => x.value[first + k]! ** 2);
    const summed = accumulationVariance(squares, fourth, count, path) + lost * lost;
    const spread = (4 * weighted + summed) / (squares * squares || 1);
    inverseVariance = (spread + (attributes.sumError ?? 0) ** 2) / 4 + functionVariance;
    if (attributes.storedStatistics) {
      inverseVariance = flippedRoot(meanSquare, meanSquare ** 2 * spread, attributes, precision.store);
      inverseJump = Math.sqrt(inverseVariance);
    }
  }
  return { mean, meanVariance, inverse, inverseVariance, inverseJump, overflow: squares > float32Max };
}

/** Variance of a float32 sum of `count` values. */
function sumVariance(values: Float64Array, first: number, count: number): number {
  let sum = 0;
  let squares = 0;
  let partials = 0;
  let partialSquares = 0;
  for (let i = first; i < first + count; i++) {
    sum += values[i]!;
    squares += values[i]! ** 2;
    partials += sum;
    partialSquares += sum * sum;
  }
  return accumulationVariance(sum, squares, count, longerPath(sum, count, partials, partialSquares));
}

/** 1 / sqrt(mean(x²) + ε) with every step stored. */
function storedRoot(meanSquare: number, { epsilon, storedStatistics }: RmsNormAttributes, store: DType): number {
  const root = Math.sqrt(roundTo(roundTo(meanSquare, store) + epsilon, store));
  return roundTo(1 / (storedStatistics === "sqrt" ? roundTo(root, store) : root), store);
}

/** Relative variance of that root: none unless the mean or the root lies beside a rounding boundary. */
function flippedRoot(
  meanSquare: number,
  variance: number,
  { epsilon, storedStatistics }: RmsNormAttributes,
  store: DType,
): number {
  const before = roundTo(meanSquare, store) + epsilon;
  const ofTotal = flipVariance(before, flipVariance(meanSquare, variance, store), store);
  const root = Math.sqrt(roundTo(before, store));
  const inverse = 1 / (storedStatistics === "sqrt" ? roundTo(root, store) : root);
  const relative = ofTotal / (4 * root ** 4) + functionVariance;
  // The ends of a vectorised loop take the other way to the root.
  const other = 1 / (storedStatistics === "sqrt" ? root : roundTo(root, store));
  const apart = roundTo(other, store) / roundTo(inverse, store) - 1;
  return apart ** 2 + flipVariance(inverse, inverse ** 2 * relative, store) / inverse ** 2;
}

/** Of one element: its own error, the norm's, and the rounding before the weight. */
function elementNoise(
  { precision, rounding }: OpContext,
  s: GroupStatistics,
  x: Input,
  i: number,
  weight: number,
  out: MutableBlock,
  at: number,
): void {
  const normalised = out.value[at]!;
  const own = usableVariance(x, i);
  let variance = (own === 0 ? 0 : s.inverse * s.inverse * own) + normalised * normalised * s.inverseVariance;
  variance += s.inverse * s.inverse * s.meanVariance;
  const jump = Math.max(s.inverse * (x.jump?.[i] ?? 0), Math.abs(normalised) * s.inverseJump);
  raiseJump(out, at, Math.abs(weight) * jump);
  if (!rounding) variance += storeVariance(normalised, precision.store);
  else if (rounding.settings.normalised) {
    variance = flipVariance(normalised, variance, rounding.store, jump);
    const format = floatFormat(rounding.store);
    if (variance > 0 && format) raiseJump(out, at, Math.abs(weight) * unitInLastPlace(normalised, format));
  }
  out.variance[at] = weight * weight * variance + (normalised * weight) ** 2 * computeVariance;
  if (s.overflow) {
    out.range ??= new Uint8Array(out.value.length);
    out.range[at] = mayBe.zero | mayBe.notANumber;
  }
}
