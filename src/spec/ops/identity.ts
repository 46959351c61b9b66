import { emptyBlock, type Op } from "../op.js";

/** The same value under another name: what a module returns of its last child, or what a KV append stores. */
export function identity(kind: "identity" | "append" = "identity"): Op {
  return {
    kind,
    attributes: {},
    evaluate({ input, noise }, rows, columns) {
      const x = input(0, rows, columns);
      const out = emptyBlock(rows.length * columns.length);
      out.value.set(x.value);
      if (noise) out.variance.set(x.variance);
      if (x.range) out.range = x.range;
      return out;
    },
  };
}
