import { computeVariance } from "../noise.js";
import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";

/** Σ weight_i · input_i; the residual stream's weights are all 1. */
export function add(weights: readonly number[] = [1, 1]): Op {
  return {
    kind: "add",
    attributes: { weights },
    evaluate({ input, noise }, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, noise);
      weights.forEach((weight, index) => {
        if (weight === 0) return;
        const x = input(index, rows, columns);
        for (let i = 0; i < out.value.length; i++) out.value[i]! += weight * x.value[i]!;
        if (!noise) return;
        for (let i = 0; i < out.value.length; i++) {
          out.variance[i]! += scaled(weight * weight, usableVariance(x, i));
          if (x.jump) raiseJump(out, i, Math.abs(weight) * x.jump[i]!);
        }
      });
      if (noise) for (let i = 0; i < out.value.length; i++) out.variance[i]! += out.value[i]! ** 2 * computeVariance;
      return out;
    },
  };
}
