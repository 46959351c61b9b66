import type { Backend } from "../device/backend.js";
import { BatchBuffer } from "../device/batch-buffer.js";
import type { KvLayout } from "../device/kv-store.js";
import { cacheView, headRows, type PagedCache, requireTensor, type Tensor } from "../device/tensor.js";
import { type PageTable, requireInt32, slotAt, validatePageTable } from "../run/page-table.js";

export interface AppendRequest {
  /** [nnz, kv_heads, head_dim] float32; rows may be strided. */
  readonly key: Tensor;
  readonly value: Tensor;
  /** [nnz] sequence of each row. */
  readonly batchIndices: Int32Array;
  /** [nnz] absolute position of each row in its sequence. */
  readonly positions: Int32Array;
  readonly cache: PagedCache;
  /** Must already include the new tokens. */
  readonly table: PageTable;
  readonly layout?: KvLayout;
}

/**
 * Writes rows of K and V into their pages, FlashInfer's append_paged_kv_cache: row i goes to position `positions[i]` of
 * sequence `batchIndices[i]`. Unlike there, every index is checked first.
 * @throws RangeError naming the array and entry that do not fit.
 */
export async function appendPagedKVCache(backend: Backend, request: AppendRequest): Promise<void> {
  const { key, value, batchIndices, positions, table, layout = "NHD" } = request;
  const [rows, kvHeads, headDim] = key.shape as [number, number, number];
  requireTensor("append_key", key, [rows, kvHeads, headDim]);
  requireTensor("append_value", value, [rows, kvHeads, headDim]);
  for (const [name, { dtype }] of [
    ["append_key", key],
    ["append_value", value],
  ] as const) {
    if (dtype !== "float32") throw new RangeError(`${name}: expected float32, found ${dtype}`);
  }
  const first = Array.isArray(request.cache)
    ? (request.cache as readonly [Tensor, Tensor])[0]
    : (request.cache as Tensor);
  const view = cacheView(request.cache, layout, { pageSize: table.pageSize, kvHeads, headDim, kvDtype: first.dtype });
  const lengths = validatePageTable(table, table.lastPageLen.length, view.pageCount);
  const slots = slotsOf(batchIndices, positions, table, lengths, rows);
  if (rows === 0) return;
  const batch = new BatchBuffer(backend, rows, 1, 1);
  const shape = batch.upload(
    {
      seqIds: [0],
      tokenIds: new Int32Array(rows),
      positions,
      slotMapping: slots,
      qoIndptr: Int32Array.of(0, rows),
      kvIndptr: Int32Array.of(0, 0),
      kvIndices: new Int32Array(0),
      kvLastPageLen: Int32Array.of(0),
      pageSize: table.pageSize,
    },
    { splitTokens: 1, splitCount: 1 },
  );
  await backend.append({ batch, shape, kvHeads, headDim, key: headRows(key), value: headRows(value), cache: view });
  batch.destroy();
}

/** [nnz] slot of each row by the page table. */
function slotsOf(
  batchIndices: Int32Array,
  positions: Int32Array,
  table: PageTable,
  lengths: Int32Array,
  rows: number,
): Int32Array {
  for (const [name, array] of [
    ["batch_indices", batchIndices],
    ["positions", positions],
  ] as const) {
    requireInt32(name, array);
    if (array.length !== rows) throw new RangeError(`${name}: expected ${rows} entries, found ${array.length}`);
  }
  return Int32Array.from(positions, (position, i) => {
    const b = batchIndices[i]!;
    if (b < 0 || b >= lengths.length)
      throw new RangeError(`batch_indices[${i}]: ${b} is not in 0 … ${lengths.length - 1}`);
    if (position < 0 || position >= lengths[b]!) {
      throw new RangeError(
        `positions[${i}]: ${position} is not in 0 … ${lengths[b]! - 1}, the table's keys of sequence ${b}`,
      );
    }
    return slotAt(table.indices, table.indptr[b]!, position, table.pageSize);
  });
}
