import type { Investigation } from "../check/investigation.js";

/** The type a run stores values in. */
export function storeType({ precision }: Investigation): "float16" | "bfloat16" | "float32" {
  const { store } = precision;
  return store === "float16" || store === "bfloat16" ? store : "float32";
}
