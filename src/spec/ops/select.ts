import { emptyBlock, type Op } from "../op.js";

/** Chooses the rows that go on to the logits. The meaning is the row itself; a rewrite may gather others. */
export function select(rowOf?: (row: number) => number): Op {
  return {
    kind: "select",
    attributes: rowOf ? { rowOf } : {},
    evaluate({ input, noise }, rows, columns) {
      const x = input(0, rowOf ? rows.map(rowOf) : rows, columns);
      const out = emptyBlock(rows.length * columns.length);
      out.value.set(x.value);
      if (noise) out.variance.set(x.variance);
      if (x.range) out.range = x.range;
      return out;
    },
  };
}
