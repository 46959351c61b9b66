/** FlashInfer's CSR page table on the host. Shapes: indptr [batch + 1], indices [indptr[batch]], lastPageLen [batch]. */
export interface PageTable {
  readonly indptr: Int32Array;
  readonly indices: Int32Array;
  readonly lastPageLen: Int32Array;
  readonly pageSize: number;
}

/**
 * Checks a page table against the cache it points into.
 * @returns [batch] keys of each sequence.
 * @throws RangeError naming the array, the entry and what was expected.
 */
export function validatePageTable(table: PageTable, batch: number, pageCount: number): Int32Array {
  const { indptr, indices, lastPageLen, pageSize } = table;
  if (!Number.isInteger(pageSize) || pageSize < 1) throw new RangeError(`page_size: ${pageSize} is not positive`);
  validateIndptr("kv_indptr", indptr, batch);
  requireInt32("kv_indices", indices);
  requireInt32("kv_last_page_len", lastPageLen);
  if (indices.length !== indptr[batch]) {
    throw new RangeError(
      `kv_indices: expected kv_indptr[${batch}] = ${indptr[batch]} entries, found ${indices.length}`,
    );
  }
  if (lastPageLen.length !== batch) {
    throw new RangeError(`kv_last_page_len: expected ${batch} entries, found ${lastPageLen.length}`);
  }
  indices.forEach((page, i) => {
    if (page < 0 || page >= pageCount) {
      throw new RangeError(`kv_indices[${i}]: page ${page} is not in 0 … ${pageCount - 1}`);
    }
  });
  lastPageLen.forEach((length, b) => {
    const empty = indptr[b + 1] === indptr[b];
    if (empty ? length !== 0 : length < 1 || length > pageSize) {
      const expected = empty ? "0, the sequence has no pages" : `1 … ${pageSize}`;
      throw new RangeError(`kv_last_page_len[${b}]: expected ${expected}, found ${length}`);
    }
  });
  return kvLengths(indptr, lastPageLen, pageSize);
}

/** Checks that `indptr` has batch + 1 entries, starts at 0 and never falls. @throws RangeError otherwise. */
export function validateIndptr(name: string, indptr: Int32Array, batch: number): void {
  requireInt32(name, indptr);
  if (indptr.length !== batch + 1) {
    throw new RangeError(`${name}: expected ${batch + 1} entries, found ${indptr.length}`);
  }
  if (indptr[0] !== 0) throw new RangeError(`${name}[0]: expected 0, found ${indptr[0]}`);
  for (let b = 0; b < batch; b++) {
    if (indptr[b + 1]! < indptr[b]!) {
      throw new RangeError(`${name}[${b + 1}]: ${indptr[b + 1]} is less than the entry before it, ${indptr[b]}`);
    }
  }
}

/** FlashInfer casts int64 indices to int32 unseen; here they are refused. @throws RangeError for any other type. */
export function requireInt32(name: string, array: unknown): void {
  if (!(array instanceof Int32Array)) {
    throw new RangeError(`${name}: expected int32 (an Int32Array), found ${(array as object)?.constructor?.name}`);
  }
}

/**
 * [sequences] keys of each sequence: (pages - 1) · page_size + last_page_len, 0 without pages (FlashInfer's get_length).
 * Shapes: indptr [sequences + 1], lastPageLen [sequences].
 */
export function kvLengths(indptr: Int32Array, lastPageLen: Int32Array, pageSize: number): Int32Array {
  return Int32Array.from(lastPageLen, (last, b) => keysIn(indptr[b + 1]! - indptr[b]!, last, pageSize));
}

/** Keys on `pages` pages of which the last holds `lastPageLen`: (pages - 1) · page_size + last_page_len. */
export function keysIn(pages: number, lastPageLen: number, pageSize: number): number {
  return pages === 0 ? 0 : (pages - 1) * pageSize + lastPageLen;
}

/**
 * Slot of the key at `position` of a sequence whose pages begin at entry `first` of `indices`: page · page_size + place
 * in the page.
 */
export function slotAt(indices: ArrayLike<number>, first: number, position: number, pageSize: number): number {
  return indices[first + Math.floor(position / pageSize)]! * pageSize + (position % pageSize);
}
