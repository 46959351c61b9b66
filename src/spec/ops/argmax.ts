import { emptyBlock, type Op } from "../op.js";

/**
 * Index of the largest input, the lowest one on ties; NaN never wins, so that a row of NaN gives 0.
 * Variance is infinite where another index lies within rounding of the largest: either is then correct.
 */
export function argmax(): Op {
  return {
    kind: "argmax",
    attributes: {},
    evaluate({ input, width, noise }, rows) {
      const n = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length, noise);
      for (let r = 0; r < rows.length; r++) {
        let best = 0;
        for (let c = 1; c < n; c++)
          if (x.value[r * n + c]! > x.value[r * n + best]! || Number.isNaN(x.value[r * n + best]!)) best = c;
        out.value[r] = Number.isNaN(x.value[r * n + best]!) ? 0 : best;
        if (!noise) continue;
        const top = r * n + best;
        for (let c = 0; c < n; c++) {
          if (c === best) continue;
          const i = r * n + c;
          const margin = x.value[top]! - x.value[i]!;
          if (margin * margin <= 16 * (x.variance[top]! + x.variance[i]!) || margin === 0) out.variance[r] = Infinity;
        }
      }
      return out;
    },
  };
}
