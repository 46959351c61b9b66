import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";

/** Element-wise product of two inputs: the gate of a gated MLP. */
export function multiply(): Op {
  return {
    kind: "multiply",
    attributes: {},
    evaluate({ input, noise }, rows, columns) {
      const a = input(0, rows, columns);
      const b = input(1, rows, columns);
      const out = emptyBlock(rows.length * columns.length, noise);
      multiplyInto(out.value, a.value, b.value);
      if (!noise) return out;
      for (let i = 0; i < out.value.length; i++) {
        const x = a.value[i]!;
        const y = b.value[i]!;
        out.variance[i] = scaled(y * y, usableVariance(a, i)) + scaled(x * x, usableVariance(b, i));
        if (a.jump) raiseJump(out, i, Math.abs(y) * a.jump[i]!);
        if (b.jump) raiseJump(out, i, Math.abs(x) * b.jump[i]!);
      }
      return out;
    },
  };
}

/** A loop of its own is compiled on its own. */
function multiplyInto(out: Float64Array, a: Float64Array, b: Float64Array): void {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! * b[i]!;
}
