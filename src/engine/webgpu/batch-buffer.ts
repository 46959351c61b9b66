import { kvLengths, prefillTiles, type SplitPlan } from "../attention/plan.js";
import type { Batch } from "../path.js";
import type { Gpu } from "./device.js";
import { batchHeader } from "./parameters.js";
import { BufferUsage } from "./usage.js";

/** Numbers of one batch that decide grids and kernels. */
export interface BatchShape {
  readonly rows: number;
  readonly sequences: number;
  /** Every sequence has exactly one row: the decode kernels apply. */
  readonly decode: boolean;
  readonly splitCount: number;
  readonly tileCount: number;
}

/**
 * A batch on the GPU: one buffer of int32 with every array at a fixed place, and the header that says where. Fixed
 * places let bind groups be made once; kernels of the decode loop write here too.
 */
export class BatchBuffer {
  readonly header: GPUBuffer;
  readonly arrays: GPUBuffer;
  readonly #at: Record<ArrayName, number>;
  readonly #length: number;

  constructor(
    readonly gpu: Gpu,
    readonly maxRows: number,
    readonly maxSequences: number,
    readonly maxPageEntries: number,
  ) {
    const capacity: Record<ArrayName, number> = {
      tokenIds: maxRows,
      positions: maxRows,
      slots: maxRows,
      qoIndptr: maxSequences + 1,
      kvIndptr: maxSequences + 1,
      kvLength: maxSequences,
      generated: maxSequences,
      tiles: 2 * (Math.ceil(maxRows / 64) + maxSequences),
      kvIndices: maxPageEntries,
    };
    let at = 0;
    const places = {} as Record<ArrayName, number>;
    for (const name of Object.keys(capacity) as ArrayName[]) {
      places[name] = at;
      at += capacity[name];
    }
    this.#at = places;
    this.#length = at;
    this.header = gpu.buffer("batch header", batchHeader.byteLength, BufferUsage.uniform);
    this.arrays = gpu.buffer("batch", at * 4);
  }

  /**
   * Writes a batch.
   * @param reserve pages each sequence may grow into after its page table.
   */
  upload(batch: Batch, plan: SplitPlan, reserve?: readonly (readonly number[])[]): BatchShape {
    const sequences = batch.seqIds.length;
    const rows = batch.tokenIds.length;
    const decode = rows === sequences && batch.qoIndptr.every((first, i) => first === i);
    const tiles = prefillTiles(batch.qoIndptr);
    const table = withReserve(batch, reserve);
    if (table.indices.length > this.maxPageEntries) {
      throw new RangeError(`the page table has ${table.indices.length} entries, at most ${this.maxPageEntries} fit`);
    }
    const content: Record<ArrayName, Int32Array> = {
      tokenIds: batch.tokenIds,
      positions: batch.positions,
      slots: batch.slotMapping,
      qoIndptr: batch.qoIndptr,
      kvIndptr: table.indptr,
      kvLength: kvLengths(batch.kvIndptr, batch.kvLastPageLen, batch.pageSize),
      generated: new Int32Array(sequences),
      tiles,
      kvIndices: table.indices,
    };
    const data = new Int32Array(this.#at.kvIndices + table.indices.length);
    for (const name of Object.keys(content) as ArrayName[]) data.set(content[name], this.#at[name]);
    this.gpu.write(this.arrays, 0, data);
    this.gpu.write(
      this.header,
      0,
      batchHeader.pack({
        rows,
        sequences,
        splitTokens: plan.splitTokens,
        splitCount: plan.splitCount,
        pageSize: batch.pageSize,
        tokenIdsAt: this.#at.tokenIds,
        positionsAt: this.#at.positions,
        slotsAt: this.#at.slots,
        qoIndptrAt: this.#at.qoIndptr,
        kvIndptrAt: this.#at.kvIndptr,
        kvLengthAt: this.#at.kvLength,
        kvIndicesAt: this.#at.kvIndices,
        tilesAt: this.#at.tiles,
        generatedAt: this.#at.generated,
      }),
    );
    return { rows, sequences, decode, splitCount: plan.splitCount, tileCount: tiles.length / 2 };
  }

  get byteLength(): number {
    return this.#length * 4;
  }

  destroy(): void {
    this.header.destroy();
    this.arrays.destroy();
  }
}

type ArrayName =
  | "tokenIds"
  | "positions"
  | "slots"
  | "qoIndptr"
  | "kvIndptr"
  | "kvLength"
  | "generated"
  | "tiles"
  | "kvIndices";

function withReserve(batch: Batch, reserve: readonly (readonly number[])[] | undefined) {
  if (!reserve) return { indptr: batch.kvIndptr, indices: batch.kvIndices };
  const indptr = new Int32Array(batch.kvIndptr.length);
  const indices: number[] = [];
  for (let b = 0; b + 1 < indptr.length; b++) {
    indices.push(...batch.kvIndices.subarray(batch.kvIndptr[b]!, batch.kvIndptr[b + 1]!), ...(reserve[b] ?? []));
    indptr[b + 1] = indices.length;
  }
  return { indptr, indices: Int32Array.from(indices) };
}
