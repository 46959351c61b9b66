import type { Op } from "../spec/op.js";
import { decode, encode } from "../tensor/dtype.js";
import { elementwise } from "./rewrite.js";

/** A 16-bit value's bits read as the other 16-bit type. */
export function otherBits(value: number, store: "bfloat16" | "float16"): number {
  return decode(encode([value], store), store === "bfloat16" ? "float16" : "bfloat16")[0]!;
}

/** A reader that takes the bits of input 0 for the other 16-bit type: what it reads is stored nowhere. */
export function readAsOther(store: "bfloat16" | "float16"): Op {
  return { ...elementwise(1, ([x]) => otherBits(x!, store)), stored: true };
}
