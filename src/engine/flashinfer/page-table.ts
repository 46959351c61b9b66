import type { Cuda } from "../cuda/cuda.js";
import type { KernelLaunch } from "../cuda/launch.js";
import type { CudaBuffer } from "../cuda/memory.js";
import { launch } from "../cuda/step-context.js";
import type { BatchBuffer } from "../device/batch-buffer.js";
import type { Operand } from "./operands.js";

/** FlashInfer's page table of a batch on the device, made anew from the lengths that the device counts on. */
export class DevicePageTable {
  readonly #indptr: CudaBuffer;
  readonly #indices: CudaBuffer;
  readonly #lastPageLen: CudaBuffer;

  constructor(
    readonly cuda: Cuda,
    readonly batch: BatchBuffer,
  ) {
    const { maxSequences, maxPageEntries } = batch;
    this.#indptr = cuda.buffer("kv indptr", (maxSequences + 1) * 4);
    this.#indices = cuda.buffer("kv indices", maxPageEntries * 4);
    this.#lastPageLen = cuda.buffer("kv last page len", maxSequences * 4);
  }

  /** To be run before the first attention of a step. */
  get launch(): KernelLaunch {
    const { header, arrays } = this.batch;
    const made = { indptr: this.#indptr, indices: this.#indices, lastPageLen: this.#lastPageLen };
    const values = { header, batch: arrays, ...made };
    return launch(this.cuda.modules, "page table", "page-table", values, ({ sequences }) => [sequences, 1, 1]);
  }

  operands(sequences: number): { indptr: Operand; indices: Operand; lastPageLen: Operand } {
    return {
      indptr: { buffer: this.#indptr, dtype: "int32", shape: [sequences + 1] },
      indices: { buffer: this.#indices, dtype: "int32", shape: [this.batch.maxPageEntries] },
      lastPageLen: { buffer: this.#lastPageLen, dtype: "int32", shape: [sequences] },
    };
  }

  destroy(): void {
    for (const buffer of [this.#indptr, this.#indices, this.#lastPageLen]) buffer.destroy();
  }
}

/** Query rows of each sequence as the batch has them on the device. */
export function qoIndptr(batch: BatchBuffer, sequences: number): Operand {
  return listOf(batch, "qoIndptr", sequences);
}

/** Keys of each sequence where K and V are rows that follow one another. */
export function kvIndptr(batch: BatchBuffer, sequences: number): Operand {
  return listOf(batch, "kvIndptr", sequences);
}

function listOf(batch: BatchBuffer, name: "qoIndptr" | "kvIndptr", sequences: number): Operand {
  const buffer = batch.arrays as CudaBuffer;
  return { buffer, dtype: "int32", shape: [sequences + 1], offset: batch.at(name) };
}
