import type { Block, Op } from "../op.js";

/** The same value under another name: what a module returns of its last child, or what a KV append stores. */
export function identity(kind: "identity" | "append" = "identity"): Op {
  return {
    kind,
    attributes: {},
    evaluate: ({ input }, rows, columns) => copyOf(input(0, rows, columns)),
  };
}

/** A block of its own with the same elements. */
export function copyOf({ value, variance, jump, range }: Block): Block {
  return { value: value.slice(), variance: variance.slice(), jump, range };
}
