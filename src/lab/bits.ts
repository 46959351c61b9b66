import { decode, encode } from "../tensor/dtype.js";

/** A 16-bit value's bits read as the other 16-bit type. */
export function otherBits(value: number, store: "bfloat16" | "float16"): number {
  return decode(encode([value], store), store === "bfloat16" ? "float16" : "bfloat16")[0]!;
}
