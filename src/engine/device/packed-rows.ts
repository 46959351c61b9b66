import type { Prologue } from "../program/step.js";
import type { HeadRows } from "./attention-call.js";
import type { Place, Places } from "./places.js";

/** A value's rows as rows of heads. */
export function headRows({ buffer, rowStride, offset }: Place, headDim: number): HeadRows {
  return { buffer, dtype: "float32", rowStride, headStride: headDim, offset };
}

/** Rows of q, k and v side by side. @throws Error when they do not lie so. */
export function packedRows({ query, key, value, rotation, keyHeads }: Prologue, places: Places): HeadRows {
  const [q, k, v] = [query, key, value].map((name) => places.of(name)) as [Place, Place, Place];
  const queries = rotation.heads * rotation.headDim;
  const keys = keyHeads * rotation.headDim;
  const together = k.buffer === q.buffer && v.buffer === q.buffer && q.rowStride === queries + 2 * keys;
  if (!together || q.offset !== 0 || k.offset !== queries || v.offset !== queries + keys) {
    throw new Error(`${query}, ${key} and ${value} do not lie side by side`);
  }
  return headRows(q, rotation.headDim);
}
