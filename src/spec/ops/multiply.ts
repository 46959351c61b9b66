import { emptyBlock, type Op, usableVariance } from "../op.js";

/** Element-wise product of two inputs: the gate of a gated MLP. */
export function multiply(): Op {
  return {
    kind: "multiply",
    attributes: {},
    evaluate({ input, noise }, rows, columns) {
      const a = input(0, rows, columns);
      const b = input(1, rows, columns);
      const out = emptyBlock(rows.length * columns.length);
      for (let i = 0; i < out.value.length; i++) {
        const x = a.value[i]!;
        const y = b.value[i]!;
        out.value[i] = x * y;
        if (!noise) continue;
        const vx = usableVariance(a, i);
        const vy = usableVariance(b, i);
        out.variance[i] = (y === 0 ? 0 : y * y * vx) + (x === 0 ? 0 : x * x * vy);
      }
      return out;
    },
  };
}
