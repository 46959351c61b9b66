import type { Op } from "../op.js";
import { identity } from "./identity.js";

/**
 * Appends a row to the KV cache: the cache holds, for every position, what was stored there, rounded to its dtype.
 * Slots and pages are addressing, not meaning; the seam checks compare them (flashinfer: append_paged_kv_cache).
 */
export function append(): Op {
  return identity("append");
}
