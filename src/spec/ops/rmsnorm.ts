import { floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
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
  /** What is added to the weight (Gemma-style weights are stored minus one). */
  readonly weightOffset?: number;
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
      const weights = weight ? parameters.rows(weight, 0, 1) : undefined;
      const offset = attributes.weightOffset ?? 0;
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
        return weights ? weights[column % width]! + offset : 1;
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

interface GroupStatistics {
  mean: number;
  /** 1 / sqrt(mean(x²) + ε). */
  inverse: number;
  /** Relative variance of `inverse`. */
  inverseVariance: number;
  overflow: boolean;
}

type Input = {
  value: Float64Array;
  variance: Float64Array;
  jump?: Float64Array | undefined;
  range?: Uint8Array | undefined;
};

function groupStatistics(
  { arithmetic, noise }: OpContext,
  x: Input,
  rowStart: number,
  group: number,
  attributes: RmsNormAttributes,
  inputColumns: number,
): GroupStatistics {
  const width = attributes.meanWidth ?? attributes.width;
  const first = rowStart + Math.floor((group * attributes.width) / width) * width;
  const count = Math.min(attributes.meanOver ?? width, rowStart + inputColumns - first);
  let mean = 0;
  if (attributes.centred) mean = arithmetic.sum(x.value, first, count) / count;
  let squares: number;
  if (mean === 0) squares = arithmetic.dot(x.value, first, x.value, first, count);
  else {
    const centred = x.value.slice(first, first + count).map((value) => value - mean);
    squares = arithmetic.dot(centred, 0, centred, 0, count);
  }
  const total = squares / (attributes.divisor ?? count) + attributes.epsilon;
  const inverse = squares > (attributes.sumLimit ?? Infinity) ? 0 : arithmetic.compute(1 / Math.sqrt(total));
  let inverseVariance = 0;
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
  }
  return { mean, inverse, inverseVariance, overflow: squares > float32Max };
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
  if (!rounding) variance += storeVariance(normalised, precision.store);
  else if (rounding.settings.normalised) {
    variance = flipVariance(normalised, variance, rounding.store);
    const format = floatFormat(rounding.store);
    if (variance > 0 && format) raiseJump(out, at, Math.abs(weight) * unitInLastPlace(normalised, format));
  }
  if (x.jump) raiseJump(out, at, Math.abs(weight) * s.inverse * x.jump[i]!);
  out.variance[at] = weight * weight * variance + (normalised * weight) ** 2 * computeVariance;
  if (s.overflow) {
    out.range ??= new Uint8Array(out.value.length);
    out.range[at] = mayBe.zero | mayBe.notANumber;
  }
}
