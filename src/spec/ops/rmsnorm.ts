import { accumulationVariance, computeVariance, float32Max, storeVariance } from "../noise.js";
import { emptyBlock, mayBe, type Op, type OpContext, usableVariance } from "../op.js";

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
  /** Largest Σx² the accumulator holds; beyond it the norm gives 0. Infinite unless a rewrite says otherwise. */
  readonly sumLimit?: number;
  /** Relative one-sigma error of the accumulator on top of float32's. */
  readonly sumError?: number;
}

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
    evaluate(context, rows, columns) {
      const { input, parameters, noise, arithmetic } = context;
      const inputColumns = context.width(0);
      const x = input(0, rows);
      const weights = weight ? parameters.rows(weight, 0, 1) : undefined;
      const offset = attributes.weightOffset ?? 0;
      const out = emptyBlock(rows.length * columns.length);
      for (let r = 0; r < rows.length; r++) {
        const groups = new Map<number, GroupStatistics>();
        for (let c = 0; c < columns.length; c++) {
          const column = columns[c]!;
          const group = Math.floor(column / width);
          let statistics = groups.get(group);
          if (!statistics) {
            statistics = groupStatistics(context, x, r * inputColumns, group, attributes, inputColumns);
            groups.set(group, statistics);
          }
          const i = r * inputColumns + column;
          const at = r * columns.length + c;
          const w = weights ? weights[column % width]! + offset : 1;
          const normalised = arithmetic.between((x.value[i]! - statistics.mean) * statistics.inverse);
          out.value[at] = normalised * w;
          if (!noise) continue;
          out.variance[at] = w * w * elementVariance(context, statistics, x.value[i]!, usableVariance(x, i));
          out.shared ??= new Float64Array(out.value.length);
          out.shared[at] = out.value[at]! ** 2 * statistics.inverseVariance;
          if (statistics.overflow) {
            out.range ??= new Uint8Array(out.value.length);
            out.range[at] = mayBe.zero | mayBe.notANumber;
          }
        }
      }
      return out;
    },
  };
}

interface GroupStatistics {
  mean: number;
  /** 1 / sqrt(mean(x²) + ε). */
  inverse: number;
  /** Relative variance of `inverse`. */
  inverseVariance: number;
  count: number;
  overflow: boolean;
}

function groupStatistics(
  { arithmetic, noise }: OpContext,
  x: { value: Float64Array; variance: Float64Array; range?: Uint8Array | undefined },
  rowStart: number,
  group: number,
  attributes: RmsNormAttributes,
  inputColumns: number,
): GroupStatistics {
  const width = attributes.meanWidth ?? attributes.width;
  const first = rowStart + Math.floor((group * attributes.width) / width) * width;
  const count = Math.min(width, rowStart + inputColumns - first);
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
    for (let i = first; i < first + count; i++) {
      const square = x.value[i]! * x.value[i]!;
      const variance = usableVariance(x, i);
      if (variance !== 0 && square !== 0) weighted += square * variance;
      fourth += square * square;
    }
    const spread = (4 * weighted + accumulationVariance(squares, fourth, count)) / (squares * squares || 1);
    inverseVariance = (spread + (attributes.sumError ?? 0) ** 2) / 4 + 4 * computeVariance;
  }
  return { mean, inverse, inverseVariance, count, overflow: squares > float32Max };
}

/** Variance of the normalised element before its weight, from its own error, the norm's, and one rounding between. */
function elementVariance({ precision }: OpContext, s: GroupStatistics, x: number, variance: number): number {
  const normalised = (x - s.mean) * s.inverse;
  const own = variance === 0 ? 0 : s.inverse * s.inverse * variance;
  return own + normalised * normalised * s.inverseVariance + storeVariance(normalised, precision.store);
}
