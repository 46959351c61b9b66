import type { Batch } from "../run/batch.js";

/** Batches that only a benchmark makes: sequences of one length, on pages of their own. */

export const pageSize = 16;
/** Steps of one measurement. */
export const batchSteps = 32;
/** Rows `first` to `first + count` of each of `sequences` on pages of its own, which have room for `longest` keys. */
export function sequencesBatch(
  sequences: number,
  first: number,
  count: number,
  longest: number,
  vocabulary: number,
): Batch {
  const length = first + count;
  const pages = Math.ceil(length / pageSize);
  const apart = Math.ceil(longest / pageSize);
  const of = (perSequence: number, f: (sequence: number, i: number) => number) =>
    Int32Array.from({ length: sequences * perSequence }, (_, at) => f(Math.floor(at / perSequence), at % perSequence));
  return {
    seqIds: Array.from({ length: sequences }, (_, b) => b),
    tokenIds: of(count, (b, i) => ((b + first + i) * 7919) % vocabulary),
    qoIndptr: Int32Array.from({ length: sequences + 1 }, (_, b) => b * count),
    positions: of(count, (_, i) => first + i),
    kvIndptr: Int32Array.from({ length: sequences + 1 }, (_, b) => b * pages),
    kvIndices: of(pages, (b, i) => b * apart + i),
    kvLastPageLen: of(1, () => ((length - 1) % pageSize) + 1),
    slotMapping: of(count, (b, i) => b * apart * pageSize + first + i),
    pageSize,
  };
}

/** Pages that every sequence of such a batch may grow into. */
export function reservedPages({ kvIndptr, seqIds }: Batch, longest: number): number[][] {
  const apart = Math.ceil(longest / pageSize);
  const used = kvIndptr[1]! - kvIndptr[0]!;
  return seqIds.map((b) => Array.from({ length: apart - used }, (_, i) => b * apart + used + i));
}
