import { computeVariance } from "../noise.js";
import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";

/** Σ weight_i · input_i; the residual stream's weights are all 1. */
export function add(weights: readonly number[] = [1, 1]): Op {
  return {
    kind: "add",
    attributes: { weights },
    evaluate({ input, noise }, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, noise);
      for (const [index, weight] of weights.entries()) {
        if (weight === 0) continue;
        const x = input(index, rows, columns);
        addWeighted(out.value, weight, x.value);
        if (!noise) continue;
        for (let i = 0; i < out.value.length; i++) {
          out.variance[i]! += scaled(weight * weight, usableVariance(x, i));
          if (x.jump) raiseJump(out, i, Math.abs(weight) * x.jump[i]!);
        }
      }
      if (!noise) return out;
      // A sum that float32 holds is exact: between two 16-bit numbers it is one, and may lie on a boundary of rounding.
      for (let i = 0; i < out.value.length; i++) {
        const sum = out.value[i]!;
        if (Math.fround(sum) !== sum) out.variance[i]! += sum * sum * computeVariance;
      }
      return out;
    },
  };
}

/** A loop of its own is compiled on its own. */
function addWeighted(sum: Float64Array, weight: number, x: Float64Array): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += weight * x[i]!;
}
