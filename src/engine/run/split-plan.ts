/** Host-side arithmetic of FlashInfer's plan: splits of the keys, tiles of the queries. */

export interface SplitPlan {
  /** Keys per split, a multiple of the decode kernel's tile. */
  readonly splitTokens: number;
  readonly splitCount: number;
}

/** Keys the decode kernel takes at a time. */
export const decodeTile = 64;
/** Query rows the prefill kernel takes at a time. */
export const prefillRows = 64;
/** Workgroups that keep a large GPU busy. */
const enoughWorkgroups = 512;

/**
 * How the decode kernel divides the longest sequence's keys.
 * @param mostSplits where the consumer of the states merges them itself, and more would cost more than they save.
 */
export function planSplits(longest: number, sequences: number, kvHeads: number, mostSplits: number): SplitPlan {
  const tiles = Math.max(1, Math.ceil(longest / decodeTile));
  const wanted = Math.max(1, Math.ceil(enoughWorkgroups / Math.max(1, sequences * kvHeads)));
  const splits = Math.min(tiles, wanted, mostSplits);
  const splitTokens = Math.ceil(tiles / splits) * decodeTile;
  return { splitTokens, splitCount: Math.max(1, Math.ceil(longest / splitTokens)) };
}

/** Pairs (sequence, first query row): the prefill kernel's work, longest first, since late rows see the most keys. */
export function prefillTiles(qoIndptr: Int32Array): Int32Array {
  const pairs: [number, number][] = [];
  for (let b = 0; b + 1 < qoIndptr.length; b++) {
    const rows = qoIndptr[b + 1]! - qoIndptr[b]!;
    for (let first = 0; first < rows; first += prefillRows) pairs.push([b, first]);
  }
  pairs.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return Int32Array.from(pairs.flat());
}
