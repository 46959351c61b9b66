import type { AttentionRounding } from "./attention-recipes.js";
import type { Query } from "./attention-scores.js";

/** Keys per vector of the fast exponential. */
const lanes = 16;

/**
 * How many of the first keys go through the fast exponential: those of whole vectors, counted from the start of their tile.
 * A prefill attends in blocks of queries, each over the keys up to the block's last query.
 */
export function wholeVectors({ index, queries, keyCount }: Query, positions: readonly number[], tile: number): number {
  const block = queries >= 768 ? 256 : queries >= 192 ? 64 : 32;
  const count = keyCount > queries ? keyCount : Math.min((Math.floor(index / block) + 1) * block, keyCount);
  const last = Math.floor((count - 1) / tile) * tile;
  const end = last + Math.floor((count - last) / lanes) * lanes;
  const first = positions.findIndex((position) => position >= end);
  return first < 0 ? positions.length : first;
}

/** The maximum each key is exponentiated against, and the last one, which everything is scaled to. */
export function runningMaxima(
  scores: Float64Array,
  positions: readonly number[],
  { tile, descending, parts }: AttentionRounding,
  keyCount: number,
): { of: Float64Array; last: number } {
  const of = new Float64Array(scores.length);
  let running = -Infinity;
  if (parts > 1) {
    for (let p = 0; p < parts; p++) {
      const first = Math.floor((keyCount * p) / parts);
      const end = Math.floor((keyCount * (p + 1)) / parts);
      const inside = (j: number) => positions[j]! >= first && positions[j]! < end;
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
  const first = Math.floor(positions[0]! / tile);
  const count = Math.floor(positions.at(-1)! / tile) - first + 1;
  // Positions rise, so that a tile is a range of keys.
  const bounds = [0];
  for (let j = 1; j < scores.length; j++)
    while (Math.floor(positions[j]! / tile) - first >= bounds.length) bounds.push(j);
  bounds.push(scores.length);
  for (let i = 0; i < count; i++) {
    const t = descending ? count - 1 - i : i;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) if (scores[j]! > running) running = scores[j]!;
    for (let j = bounds[t]!; j < bounds[t + 1]!; j++) of[j] = running;
  }
  return { of, last: running };
}
