import { BatchBuffer } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { formatOf, kernel } from "../webgpu/kernels.js";
import type { KvLayout } from "../webgpu/kv-store.js";
import { attentionParameters } from "../webgpu/parameters.js";
import { BufferUsage } from "../webgpu/usage.js";
import { submit } from "./launch.js";
import { cacheView, type PagedCache, requireTensor, stridesOf, type Tensor } from "./tensor.js";
import { type PageTable, requireInt32, validatePageTable } from "./validate.js";

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
export async function appendPagedKVCache(gpu: Gpu, request: AppendRequest): Promise<void> {
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
  const batch = new BatchBuffer(gpu, rows, 1, 1);
  batch.upload(
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
  const [keyPage, keySlot, keyHead] = view.keyStrides;
  const [valuePage, valueSlot, valueHead] = view.valueStrides;
  const addressing = gpu.upload(
    "addressing",
    attentionParameters.pack({
      scale: 0,
      softCap: 0,
      windowLeft: -1,
      causal: 0,
      queryRowStride: 0,
      queryHeadStride: 0,
      queryOffset: 0,
      keyPageStride: keyPage,
      keySlotStride: keySlot,
      keyHeadStride: keyHead,
      keyOffset: view.keys.offset ?? 0,
      valuePageStride: valuePage,
      valueSlotStride: valueSlot,
      valueHeadStride: valueHead,
      valueOffset: view.values.offset ?? 0,
    }),
    BufferUsage.uniform,
  );
  for (const [tensor, cache, values] of [
    [key, view.keys, false],
    [value, view.values, true],
  ] as const) {
    const [rowStride, headStride] = stridesOf(tensor) as [number, number];
    const program = await kernel(gpu, "append", {
      HEADS: kvHeads,
      HEAD_DIM: headDim,
      INPUT_STRIDE: rowStride,
      INPUT_HEAD_STRIDE: headStride,
      INPUT_OFFSET: tensor.offset ?? 0,
      CACHE_FORMAT: formatOf(cache.dtype, "cache"),
      VALUES: values,
    });
    const group = program.bind({
      header: batch.header,
      addressing,
      input: tensor.buffer,
      batch: batch.arrays,
      cache: cache.buffer,
    });
    submit(gpu, [[program, group, [Math.ceil((kvHeads * headDim) / 8 / 64), rows, 1]]]);
  }
  batch.destroy();
  addressing.destroy();
}

/** [nnz] slot of each row: indices[indptr[b] + p / page_size] · page_size + p % page_size. */
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
    const page = table.indices[table.indptr[b]! + Math.floor(position / table.pageSize)]!;
    return page * table.pageSize + (position % table.pageSize);
  });
}
