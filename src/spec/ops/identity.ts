import { copied } from "../../tensor/scratch.js";
import type { Block, Op } from "../op.js";

/** The same value under another name: what a module returns of its last child, or what a KV append stores. */
export function identity(kind: "identity" | "append" = "identity"): Op {
  return {
    kind,
    attributes: {},
    evaluate: copy,
  };
}

/** Whether an op's value is its input's, element by element. */
export function isCopy(op: Op): boolean {
  return op.evaluate === copy;
}

const copy: Op["evaluate"] = ({ input }, rows, columns) => copyOf(input(0, rows, columns));

/** A block of its own with the same elements. */
export function copyOf({ value, variance, jump, range }: Block): Block {
  return { value: copied(value), variance: copied(variance), jump, range };
}
