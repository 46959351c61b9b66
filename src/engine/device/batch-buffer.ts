import type { Batch } from "../run/batch.js";
import { kvLengths } from "../run/page-table.js";
import { prefillTiles, type SplitPlan } from "../run/split-plan.js";
import type { Backend, DeviceBuffer } from "./backend.js";
import { parameterBlock } from "./parameter-block.js";

/**
 * What changes from one batch to the next. Members ending in `At` are where an array starts in the batch's one buffer
 * of int32 ; the arrays are FlashInfer's.
 */
export const batchHeader = parameterBlock("BatchHeader", {
  rows: "u32",
  sequences: "u32",
  /** Tokens of one KV split of the decode kernel, and splits per sequence. */
  splitTokens: "u32",
  splitCount: "u32",
  pageSize: "u32",
  tokenIdsAt: "u32",
  positionsAt: "u32",
  slotsAt: "u32",
  qoIndptrAt: "u32",
  kvIndptrAt: "u32",
  kvLengthAt: "u32",
  kvIndicesAt: "u32",
  /** Work list of the prefill kernel: pairs (sequence, first query row within it). */
  tilesAt: "u32",
  /** Tokens generated so far in this flight, per sequence. */
  generatedAt: "u32",
});

/** Numbers of one batch that decide grids. */
export interface BatchShape {
  readonly rows: number;
  readonly sequences: number;
  readonly splitCount: number;
  readonly tileCount: number;
}

/** A batch's lengths on the host, in step with the device. */
export interface BatchContent {
  readonly qoIndptr: Int32Array;
  /** Pages that a sequence may grow into are counted. */
  readonly kvIndptr: Int32Array;
  readonly kvLength: Int32Array;
  readonly pageSize: number;
}

/**
 * A batch in device memory: one buffer of int32 with every array at a fixed place, and the header that says where. Fixed
 * places let operands be bound once; kernels of the decode loop write here too.
 */
export class BatchBuffer {
  readonly header: DeviceBuffer;
  readonly arrays: DeviceBuffer;
  readonly #at: Record<ArrayName, number>;
  #content: BatchContent | undefined;

  constructor(
    readonly backend: Backend,
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
    this.header = backend.buffer("batch header", batchHeader.byteLength, "parameters");
    this.arrays = backend.buffer("batch", at * 4);
  }

  /** Element of `arrays` where one of them begins. */
  at(name: ArrayName): number {
    return this.#at[name];
  }

  /** What lies there. @throws Error before the first upload. */
  get content(): BatchContent {
    if (!this.#content) throw new Error("no batch was uploaded");
    return this.#content;
  }

  /** The device moves the batch on by a token per sequence: so does what the host knows of it. */
  advance(): void {
    const { kvLength } = this.content;
    for (let b = 0; b < kvLength.length; b++) kvLength[b]!++;
  }

  /**
   * Writes a batch.
   * @param reserve pages each sequence may grow into after its page table.
   */
  upload(batch: Batch, splits: SplitPlan, reserve?: readonly (readonly number[])[]): BatchShape {
    const sequences = batch.seqIds.length;
    const rows = batch.tokenIds.length;
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
    this.backend.write(this.arrays, 0, data);
    this.backend.write(
      this.header,
      0,
      batchHeader.pack({
        rows,
        sequences,
        splitTokens: splits.splitTokens,
        splitCount: splits.splitCount,
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
    this.#content = {
      qoIndptr: batch.qoIndptr,
      kvIndptr: table.indptr,
      kvLength: content.kvLength,
      pageSize: batch.pageSize,
    };
    return { rows, sequences, splitCount: splits.splitCount, tileCount: tiles.length / 2 };
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
