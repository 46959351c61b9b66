import type { CapturedValue, CaptureSink } from "../path.js";
import type { BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import type { KvStore } from "../webgpu/kv-store.js";
import { BufferUsage, mapForReading } from "../webgpu/usage.js";
import { type DenseTap, type Dispatch, encodeDispatches, type Tap } from "./program.js";

interface CaptureTarget {
  readonly gpu: Gpu;
  readonly sink: CaptureSink;
  readonly store: KvStore;
  /** Physical pages of the batch. */
  readonly pages: readonly number[];
}

/** One copy out of a buffer, taken between two dispatches. */
interface Copy {
  readonly tap: Tap;
  readonly role: "output" | "input";
  readonly by: string;
  /** Byte ranges in the tapped buffer: one span of a dense value, or one per page. */
  readonly ranges: readonly { from: number; length: number }[];
  /** Where the first range lies among the staged bytes; the others follow. */
  readonly at: number;
}

/** Bytes of one staging buffer. */
const chunkBytes = 2 ** 27;

/**
 * Encodes a path's dispatches with a copy of every wanted value before each reader and after each writer. Kernels,
 * operands and order are those of a run without capture, so results are the same.
 * @returns what to call after the submit: it waits and hands the values over.
 */
export function encodeCaptured(
  encoder: GPUCommandEncoder,
  program: readonly Dispatch[],
  shape: BatchShape,
  target: CaptureTarget,
): () => Promise<void> {
  const stage = new Stage(target.gpu);
  const copies: Copy[] = [];
  const copy = (tap: Tap, role: "output" | "input", by: string) => {
    if (!target.sink.wants(tap.name)) return;
    const ranges = rangesOf(tap, shape, target);
    copies.push({ tap, role, by, ranges, at: stage.copy(encoder, tap.buffer, ranges) });
  };
  for (const dispatch of program) {
    for (const tap of dispatch.reads) copy(tap, "input", dispatch.label);
    encodeDispatches(encoder, [dispatch], shape);
    for (const tap of dispatch.writes) copy(tap, "output", dispatch.label);
  }
  return async () => {
    const bytesAt = await stage.read();
    const epochs = new Epochs();
    for (const { tap, role, by, ranges, at } of copies) {
      let from = at;
      const parts = ranges.map(({ length }) => {
        const part = bytesAt(from, length);
        from += length;
        return part;
      });
      target.sink.value(describe(tap, role, by, parts, shape, target, epochs));
    }
    stage.destroy();
  };
}

function rangesOf(tap: Tap, shape: BatchShape, { store, pages }: CaptureTarget) {
  if (tap.kind === "paged") return pages.map((page) => ({ from: page * store.pageBytes, length: store.pageBytes }));
  return [{ from: tap.offset * 4, length: spanOf(tap, rowCount(tap, shape)) * 4 }];
}

function rowCount(tap: DenseTap, shape: BatchShape): number {
  return tap.per === "row" ? shape.rows : shape.sequences;
}

/** Elements from a view's first to its last. */
function spanOf(tap: DenseTap, rows: number): number {
  return (rows - 1) * tap.rowStride + tap.shape.reduce((product, n) => product * n, 1);
}

function describe(
  tap: Tap,
  role: "output" | "input",
  by: string,
  parts: Uint8Array[],
  shape: BatchShape,
  { store, pages }: CaptureTarget,
  epochs: Epochs,
): CapturedValue {
  const storage = tap.buffer.label;
  const epoch = epochs.of(tap, role, storage, parts);
  if (tap.kind === "paged") return { name: tap.name, role, by, view: pagedView(storage, epoch, parts, store, pages) };
  const strides = new Array<number>(tap.shape.length).fill(1);
  for (let k = strides.length - 2; k >= 0; k--) strides[k] = strides[k + 1]! * tap.shape[k + 1]!;
  const view = {
    kind: "dense" as const,
    storage,
    epoch,
    dtype: "float32" as const,
    shape: [rowCount(tap, shape), ...tap.shape],
    strides: [tap.rowStride, ...strides],
    offset: tap.offset,
    bytes: parts[0]!,
  };
  return { name: tap.name, role, by, view };
}

function pagedView(storage: string, epoch: number, pageBytes: Uint8Array[], store: KvStore, pages: readonly number[]) {
  const { layout, pageSize, heads, headDim, dtype } = store.options;
  return {
    kind: "paged" as const,
    storage,
    epoch,
    dtype,
    layout,
    pageSize,
    heads,
    headDim,
    strides: store.strides,
    offset: 0,
    pages,
    pageBytes,
  };
}

/**
 * Write epochs of storages within a step. Every production is a new epoch; a reader sees its producer's epoch when the
 * bytes are still the same, and one of its own when somebody has written in between.
 */
class Epochs {
  readonly #next = new Map<string, number>();
  readonly #produced = new Map<string, { epoch: number; key: string; parts: Uint8Array[] }>();

  of(tap: Tap, role: "output" | "input", storage: string, parts: Uint8Array[]): number {
    const key = tap.kind === "dense" ? `${storage} ${tap.offset} ${tap.rowStride} ${tap.shape}` : storage;
    const known = this.#produced.get(tap.name);
    if (role === "input" && known && known.key === key && sameBytes(known.parts, parts)) return known.epoch;
    const epoch = (this.#next.get(storage) ?? 0) + 1;
    this.#next.set(storage, epoch);
    this.#produced.set(tap.name, { epoch, key, parts });
    return epoch;
  }
}

function sameBytes(a: Uint8Array[], b: Uint8Array[]): boolean {
  return a.length === b.length && a.every((part, i) => equalBytes(part, b[i]!));
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Host-readable memory that grows in pieces; a copy never straddles two. */
class Stage {
  readonly #chunks: { buffer: GPUBuffer; used: number; start: number }[] = [];
  #end = 0;

  constructor(readonly gpu: Gpu) {}

  copy(encoder: GPUCommandEncoder, source: GPUBuffer, ranges: readonly { from: number; length: number }[]): number {
    const total = ranges.reduce((sum, { length }) => sum + length, 0);
    let chunk = this.#chunks.at(-1);
    if (!chunk || chunk.used + total > chunk.buffer.size) {
      const size = Math.max(chunkBytes, Math.ceil(total / 4) * 4);
      const buffer = this.gpu.device.createBuffer({ size, usage: BufferUsage.mapRead | BufferUsage.copyDestination });
      chunk = { buffer, used: 0, start: this.#end };
      this.#chunks.push(chunk);
    }
    const at = chunk.start + chunk.used;
    for (const { from, length } of ranges) {
      encoder.copyBufferToBuffer(source, from, chunk.buffer, chunk.used, length);
      chunk.used += length;
    }
    this.#end = chunk.start + chunk.used;
    return at;
  }

  /** Waits, and returns how to get at staged bytes. */
  async read(): Promise<(at: number, length: number) => Uint8Array> {
    const contents: { start: number; bytes: Uint8Array }[] = [];
    for (const { buffer, used, start } of this.#chunks) {
      await buffer.mapAsync(mapForReading, 0, Math.max(used, 4));
      contents.push({ start, bytes: new Uint8Array(buffer.getMappedRange(0, Math.max(used, 4)).slice(0)) });
      buffer.unmap();
    }
    return (at, length) => {
      const chunk = contents.findLast(({ start }) => start <= at)!;
      return chunk.bytes.subarray(at - chunk.start, at - chunk.start + length);
    };
  }

  destroy(): void {
    for (const { buffer } of this.#chunks) buffer.destroy();
  }
}
