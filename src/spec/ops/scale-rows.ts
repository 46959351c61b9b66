import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";

/** Each row of input 0 [rows, columns] times the number that input 1 [rows, 1] has for it: a gate over a whole branch. */
export function scaleRows(): Op {
  return {
    kind: "scale-rows",
    attributes: {},
    evaluate({ input, noise }, rows, columns) {
      const x = input(0, rows, columns);
      const factor = input(1, rows);
      const out = emptyBlock(rows.length * columns.length, noise);
      for (let i = 0; i < out.value.length; i++) {
        const r = Math.floor(i / columns.length);
        const f = factor.value[r]!;
        out.value[i] = f * x.value[i]!;
        if (!noise) continue;
        out.variance[i] = scaled(f * f, usableVariance(x, i)) + scaled(x.value[i]! ** 2, usableVariance(factor, r));
        if (x.jump) raiseJump(out, i, Math.abs(f) * x.jump[i]!);
        if (factor.jump) raiseJump(out, i, Math.abs(x.value[i]!) * factor.jump[r]!);
      }
      return out;
    },
  };
}
