import { keysIn, slotAt } from "./page-table.js";

/**
 * One forward pass over a ragged batch: rows of several sequences, one after the other. Arrays are FlashInfer's CSR
 * contract; the page table already includes the batch's own tokens.
 */
export interface Batch {
  /** One id per sequence. */
  readonly seqIds: readonly number[];
  /** [rows] */
  readonly tokenIds: Int32Array;
  /** [sequences + 1] first row of each sequence. */
  readonly qoIndptr: Int32Array;
  /** [rows] absolute position in the sequence. */
  readonly positions: Int32Array;
  /** [sequences + 1] first entry of each sequence in `kvIndices`. */
  readonly kvIndptr: Int32Array;
  /** Physical pages. */
  readonly kvIndices: Int32Array;
  /** [sequences] tokens in each sequence's last page, 1 … pageSize; 0 for a sequence without keys. */
  readonly kvLastPageLen: Int32Array;
  /** [rows] page · pageSize + place in the page that each row's K and V go to. */
  readonly slotMapping: Int32Array;
  readonly pageSize: number;
}

/** Whether every sequence has exactly one row. */
export function isDecode({ qoIndptr, tokenIds, seqIds }: Batch): boolean {
  return tokenIds.length === seqIds.length && qoIndptr.every((first, i) => first === i);
}

/** Rows of sequence `b` in the batch. */
export function rowCountOf(batch: Batch, b: number): number {
  return batch.qoIndptr[b + 1]! - batch.qoIndptr[b]!;
}

/** Pages of sequence `b` in the page table. */
export function pageCountOf(batch: Batch, b: number): number {
  return batch.kvIndptr[b + 1]! - batch.kvIndptr[b]!;
}

/** Keys of sequence `b` after the batch. */
export function keyCountOf(batch: Batch, b: number): number {
  return keysIn(pageCountOf(batch, b), batch.kvLastPageLen[b]!, batch.pageSize);
}

/** Row of each sequence whose logits are sampled: its last one, [sequences]. */
export function lastRows(batch: Batch): Int32Array {
  return batch.qoIndptr.slice(1).map((end) => end - 1);
}

/** Slot of the key at `position` of sequence `b`, by the page table. */
export function slotOf(batch: Batch, b: number, position: number): number {
  return slotAt(batch.kvIndices, batch.kvIndptr[b]!, position, batch.pageSize);
}

/** The batch of one more token per sequence, growing into the pages reserved for it. */
export function advanced(
  batch: Batch,
  tokenIds: Int32Array,
  start: Batch,
  reserve: readonly (readonly number[])[],
): Batch {
  const pages: number[] = [];
  const kvIndptr = [0];
  const positions = Int32Array.from(batch.positions, (position) => position + 1);
  for (let b = 0; b < batch.seqIds.length; b++) {
    const known = [...start.kvIndices.subarray(start.kvIndptr[b]!, start.kvIndptr[b + 1]!), ...reserve[b]!];
    pages.push(...known.slice(0, Math.floor(positions[b]! / batch.pageSize) + 1));
    kvIndptr.push(pages.length);
  }
  const next = {
    ...batch,
    tokenIds,
    positions,
    kvIndptr: Int32Array.from(kvIndptr),
    kvIndices: Int32Array.from(pages),
    kvLastPageLen: positions.map((position) => (position % batch.pageSize) + 1),
  };
  return { ...next, slotMapping: positions.map((position, b) => slotOf(next, b, position)) };
}

/** @throws RangeError unless positions and slots are what the page table and the lengths imply. */
export function expectConsistent(batch: Batch): void {
  for (let b = 0; b < batch.seqIds.length; b++) {
    const start = keyCountOf(batch, b) - rowCountOf(batch, b);
    for (let row = batch.qoIndptr[b]!; row < batch.qoIndptr[b + 1]!; row++) {
      const position = start + row - batch.qoIndptr[b]!;
      expectEqual("positions", row, batch.positions[row]!, position);
      expectEqual("slotMapping", row, batch.slotMapping[row]!, slotOf(batch, b, position));
    }
  }
}

function expectEqual(name: string, index: number, found: number, expected: number): void {
  if (found !== expected) throw new RangeError(`${name}[${index}]: expected ${expected}, found ${found}`);
}
