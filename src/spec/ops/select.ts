import type { Op } from "../op.js";
import { copyOf } from "./identity.js";

/** Chooses the rows that go on to the logits. The meaning is the row itself; a rewrite may gather others. */
export function select(rowOf?: (row: number) => number): Op {
  return {
    kind: "select",
    attributes: rowOf ? { rowOf } : {},
    evaluate: ({ input }, rows, columns) => copyOf(input(0, rowOf ? rows.map(rowOf) : rows, columns)),
  };
}
