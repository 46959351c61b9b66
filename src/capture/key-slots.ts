import type { StepEvent } from "./format.js";

/**
 * The flat slot (page × page_size + entry) from which a step reads the key at `position` of its sequence `b`, by the
 * recorded page table or runs; undefined where they do not say.
 */
export function slotOfKey(step: StepEvent, b: number, position: number): number | undefined {
  const { kv_runs: runs, kv_indptr: indptr, kv_indices: indices, page_size: pageSize } = step;
  if (runs) return slotInRuns(runs[b] ?? [], position);
  if (!indptr || !indices || !pageSize) return undefined;
  const entry = (indptr[b] ?? 0) + Math.floor(position / pageSize);
  // What follows is the next sequence's.
  const page = entry < (indptr[b + 1] ?? 0) ? indices[entry] : undefined;
  return page === undefined ? undefined : page * pageSize + (position % pageSize);
}

function slotInRuns(runs: readonly (readonly [number, number])[], position: number): number | undefined {
  let before = 0;
  for (const [first, keys] of runs) {
    if (position < before + keys) return first < 0 ? undefined : first + position - before;
    before += keys;
  }
  return undefined;
}

/** Keys that a step's page table or runs give its sequence `b`; undefined where they do not say. */
export function claimedKeys(step: StepEvent, b: number): number | undefined {
  const { kv_runs: runs, kv_indptr: indptr, kv_last_page_len: last, page_size: pageSize } = step;
  if (runs) return runs[b]?.reduce((sum, [, keys]) => sum + keys, 0);
  if (!indptr || !last || !pageSize) return undefined;
  const pages = indptr[b + 1]! - indptr[b]!;
  return pages === 0 ? 0 : (pages - 1) * pageSize + (last[b] ?? 0);
}
