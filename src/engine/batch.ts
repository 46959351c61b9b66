import type { Batch } from "./path.js";

/** Rows of sequence `b` in the batch. */
export function rowCountOf(batch: Batch, b: number): number {
  return batch.qoIndptr[b + 1]! - batch.qoIndptr[b]!;
}

/** Pages of sequence `b` in the page table. */
export function pageCountOf(batch: Batch, b: number): number {
  return batch.kvIndptr[b + 1]! - batch.kvIndptr[b]!;
}

/** Keys of sequence `b` after the batch: (pages - 1) · pageSize + last_page_len. */
export function keyCountOf(batch: Batch, b: number): number {
  const pages = pageCountOf(batch, b);
  return pages === 0 ? 0 : (pages - 1) * batch.pageSize + batch.kvLastPageLen[b]!;
}

/** Row of each sequence whose logits are sampled: its last one, [sequences]. */
export function lastRows(batch: Batch): Int32Array {
  return batch.qoIndptr.slice(1).map((end) => end - 1);
}

/** Slot of the key at `position` of sequence `b`, by the page table. */
export function slotOf(batch: Batch, b: number, position: number): number {
  const page = batch.kvIndices[batch.kvIndptr[b]! + Math.floor(position / batch.pageSize)]!;
  return page * batch.pageSize + (position % batch.pageSize);
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
