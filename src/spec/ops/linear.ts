import { accumulationVariance, float32Max, operandVariance } from "../noise.js";
import { type Block, emptyBlock, mayBe, type Op, usableVariance } from "../op.js";

export interface LinearAttributes {
  /** Parameter [columns, inputs]. */
  readonly weight: string;
  /** Parameter [columns], added after the product. */
  readonly bias?: string | undefined;
  /** Row of the weight that makes an output column; the column itself unless a rewrite says otherwise. */
  readonly weightRow?: (column: number) => number;
}

/** y = x Wᵀ + b over the last axis: x [rows, inputs], W [columns, inputs], b [columns]. */
export function linear(attributes: LinearAttributes): Op {
  const { weight, bias, weightRow = (column: number) => column } = attributes;
  return {
    kind: "linear",
    attributes: { ...attributes },
    evaluate({ input, width, parameters, arithmetic, precision, noise }, rows, columns) {
      const n = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length * columns.length);
      const biases = bias ? parameters.rows(bias, 0, 1) : undefined;
      const weights = weightReader(columns, parameters, weight, n, weightRow);
      const operand = noise ? operandVariance(precision) : 0;
      const spread = noise ? inputSpread(x) : undefined;
      for (let c = 0; c < columns.length; c++) {
        const { values: w, start } = weights(c);
        const b = biases ? biases[weightRow(columns[c]!)]! : 0;
        for (let r = 0; r < rows.length; r++) {
          const at = r * columns.length + c;
          if (!noise) {
            const product = arithmetic.dot(x.value, r * n, w, start, n);
            out.value[at] = biases ? arithmetic.between(product) + b : product;
            continue;
          }
          const { squared, variances } = spread!;
          const { sum, squares, variance: reaching } = weightedSums(x.value, squared, variances, r * n, w, start, n);
          // An infinite variance times a zero weight: that input does not reach this output.
          const variance = Number.isNaN(reaching) ? reachingVariance(w, start, variances, r * n, n) : reaching;
          out.value[at] = sum + b;
          out.variance[at] = variance + squares * operand + accumulationVariance(sum, squares, n);
          // Σ|term| is at most sqrt(n Σ term²).
          if (squares * n > float32Max * float32Max || Number.isNaN(squares)) {
            out.range ??= new Uint8Array(out.value.length);
            out.range[at] = mayBe.infinite | mayBe.notANumber;
          }
        }
      }
      return out;
    },
  };
}

function inputSpread(x: Block): { squared: Float64Array; variances: Float64Array } {
  return {
    squared: x.value.map((v) => v * v),
    variances: x.range ? x.variance.map((_, i) => usableVariance(x, i)) : x.variance,
  };
}

const sums = { sum: 0, squares: 0, variance: 0 };

/** Σ w·x, Σ w²·x² and Σ w²·variance in one pass, two terms at a time; the result is overwritten by the next call. */
function weightedSums(
  x: Float64Array,
  squared: Float64Array,
  variances: Float64Array,
  xStart: number,
  w: Float64Array,
  wStart: number,
  n: number,
): typeof sums {
  let sum0 = 0;
  let sum1 = 0;
  let squares0 = 0;
  let squares1 = 0;
  let variance0 = 0;
  let variance1 = 0;
  let k = 0;
  for (; k + 1 < n; k += 2) {
    const i = xStart + k;
    const u = w[wStart + k]!;
    const v = w[wStart + k + 1]!;
    const uu = u * u;
    const vv = v * v;
    sum0 += x[i]! * u;
    sum1 += x[i + 1]! * v;
    squares0 += uu * squared[i]!;
    squares1 += vv * squared[i + 1]!;
    variance0 += uu * variances[i]!;
    variance1 += vv * variances[i + 1]!;
  }
  if (k < n) {
    const u = w[wStart + k]!;
    sum0 += x[xStart + k]! * u;
    squares0 += u * u * squared[xStart + k]!;
    variance0 += u * u * variances[xStart + k]!;
  }
  sums.sum = sum0 + sum1;
  sums.squares = squares0 + squares1;
  sums.variance = variance0 + variance1;
  return sums;
}

function reachingVariance(w: Float64Array, wStart: number, variances: Float64Array, xStart: number, n: number): number {
  let sum = 0;
  for (let k = 0; k < n; k++) {
    const weight = w[wStart + k]!;
    if (weight !== 0) sum += weight * weight * variances[xStart + k]!;
  }
  return sum;
}

type WeightRow = { values: Float64Array; start: number };

/** Weight rows by position in `columns`: read as one range when all are wanted, else row by row. */
function weightReader(
  columns: Int32Array,
  parameters: { rows(name: string, first: number, count: number): Float64Array },
  weight: string,
  n: number,
  weightRow: (column: number) => number,
): (c: number) => WeightRow {
  const first = columns[0] ?? 0;
  const contiguous = columns.every((column, c) => weightRow(column) === first + c);
  const chunk = Math.max(1, Math.floor(2 ** 22 / n));
  if (!contiguous) return (c) => ({ values: parameters.rows(weight, weightRow(columns[c]!), 1), start: 0 });
  let loaded: Float64Array | undefined;
  let loadedFrom = -1;
  return (c) => {
    const block = Math.floor(c / chunk);
    if (block !== loadedFrom || !loaded) {
      const from = block * chunk;
      loaded = parameters.rows(weight, first + from, Math.min(chunk, columns.length - from));
      loadedFrom = block;
    }
    return { values: loaded, start: (c - block * chunk) * n };
  };
}
