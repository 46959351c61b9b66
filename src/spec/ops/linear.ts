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
          let sum = 0;
          let squares = 0;
          let variance = 0;
          const { squared, variances } = spread!;
          for (let k = 0, xi = r * n, wi = start; k < n; k++, xi++, wi++) {
            const wk = w[wi]!;
            const ww = wk * wk;
            sum += x.value[xi]! * wk;
            squares += ww * squared[xi]!;
            variance += ww * variances[xi]!;
          }
          out.value[at] = sum + b;
          // An infinite variance times a zero weight: that input does not reach this output.
          if (Number.isNaN(variance)) variance = reachingVariance(w, start, variances, r * n, n);
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
