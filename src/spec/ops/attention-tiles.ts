import type { AttentionRounding } from "./attention-recipes.js";
import type { Query } from "./attention-scores.js";

/** Keys per vector of the fast exponential. */
const lanes = 16;

/**
 * How many of the first keys go through the fast exponential: those of whole vectors, counted from the start of their tile.
 * A prefill attends in blocks of queries, each over the keys up to the block's last query; under a mask over all columns.
 */
export function wholeVectors({ index, queries, keyCount, keyColumns, columns }: Query, tile: number): number {
  const block = queries >= 768 ? 256 : queries >= 192 ? 64 : 32;
  const causal = keyCount > queries ? keyCount : Math.min((Math.floor(index / block) + 1) * block, keyCount);
  const count = keyColumns ?? causal;
  const last = Math.floor((count - 1) / tile) * tile;
  const end = last + Math.floor((count - last) / lanes) * lanes;
  const first = columns.findIndex((column) => column >= end);
  return first < 0 ? columns.length : first;
}

/**
 * The maximum the key in each column is exponentiated against, and the last one, which everything is scaled to.
 * @param count columns of keys that the kernel runs over.
 */
export function runningMaxima(
  scores: Float64Array,
  columns: readonly number[],
  { tile, descending, parts }: AttentionRounding,
  count: number,
): { of: Float64Array; last: number } {
  const of = new Float64Array(scores.length);
  let running = -Infinity;
  if (parts > 1) {
    for (let p = 0; p < parts; p++) {
      const first = Math.floor((count * p) / parts);
      const end = p + 1 < parts ? Math.floor((count * (p + 1)) / parts) : Infinity;
      const inside = (j: number) => columns[j]! >= first && columns[j]! < end;
      let most = -Infinity;
      for (let j = 0; j < scores.length; j++) if (inside(j) && scores[j]! > most) most = scores[j]!;
      for (let j = 0; j < scores.length; j++) if (inside(j)) of[j] = most;
      running = Math.max(running, most);
    }
    return { of, last: running };
  }
  if (tile === 0 || scores.length === 0) {
    for (const score of scores) if (score > running) running = score;
    of.fill(running);
    return { of, last: running };
  }
  const first = Math.floor(columns[0]! / tile);
  const tiles = Math.floor(columns.at(-1)! / tile) - first + 1;
  // Columns rise, so that a tile is a range of keys.
  const bounds = [0];
  for (let j = 1; j < scores.length; j++)
    while (Math.floor(columns[j]! / tile) - first >= bounds.length) bounds.push(j);
  bounds.push(scores.length);
  for (let i = 0; i < tiles; i++) {
    const t = descending ? tiles - 1 - i : i;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) if (scores[j]! > running) running = scores[j]!;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) of[j] = running;
  }
  return { of, last: running };
}
