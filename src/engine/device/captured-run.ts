import { byteWidth } from "../../tensor/dtype.js";
import type { Batch } from "../run/batch.js";
import type { CapturedValue, CaptureSink } from "../run/captured-value.js";
import type { Backend } from "./backend.js";
import type { BatchShape } from "./batch-buffer.js";
import type { CompiledStep, Tap } from "./compiled-step.js";
import { Epochs } from "./epochs.js";
import type { KvStore } from "./kv-store.js";
import { dtypeOf, type Place } from "./places.js";
import { Stage } from "./stage.js";
import type { Submission } from "./submission.js";

interface CaptureTarget {
  readonly backend: Backend;
  readonly sink: CaptureSink;
  readonly store: KvStore;
  /** Physical pages of the batch. */
  readonly pages: readonly number[];
}

/** One copy out of a buffer, taken between two steps. */
interface Copy {
  readonly tap: Tap;
  readonly role: "output" | "input";
  readonly by: string;
  /** Byte ranges in the tapped buffer: one span of a dense value, or one per page. */
  readonly ranges: readonly { from: number; length: number }[];
  /** Where the first range lies among the staged bytes; the others follow. */
  readonly at: number;
}

/**
 * Adds a path's steps to `submission`, with a copy of every wanted value before each reader and after each writer.
 * Kernels, operands and order are those of a run without capture, so results are the same.
 * @returns what to call after the submit: it waits and hands the values over.
 */
export async function runCaptured(
  submission: Submission,
  steps: readonly CompiledStep[],
  { batch, shape }: { readonly batch: Batch; readonly shape: BatchShape },
  target: CaptureTarget,
): Promise<() => Promise<void>> {
  const stage = new Stage(target.backend);
  const copies: Copy[] = [];
  const copy = (tap: Tap, role: "output" | "input", by: string) => {
    if (!target.sink.wants(tap.name)) return;
    const ranges = rangesOf(tap, shape, target);
    copies.push({ tap, role, by, ranges, at: stage.copy(submission.commands, tap.buffer, ranges) });
  };
  for (const { label, launches, onHost, reads, writes } of steps) {
    for (const tap of reads) copy(tap, "input", label);
    if (onHost) await submission.pause(() => onHost(batch));
    else submission.commands.launch(launches, shape);
    for (const tap of writes) copy(tap, "output", label);
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
      const { place, name, buffer } = tap;
      const address = place ? `${buffer.label} ${place.offset} ${place.rowStride} ${place.shape}` : buffer.label;
      const epoch = epochs.of({ name, role, storage: buffer.label, address, parts });
      const view = place ? denseView(place, epoch, parts[0]!, shape) : pagedView(tap, epoch, parts, target);
      target.sink.value({ name, role, by, view });
    }
    stage.destroy();
  };
}

function rangesOf({ place }: Tap, shape: BatchShape, { store, pages }: CaptureTarget) {
  if (!place) return pages.map((page) => ({ from: page * store.pageBytes, length: store.pageBytes }));
  // From the view's first element to its last.
  const span = (rowCount(place, shape) - 1) * place.rowStride + place.shape.reduce((product, n) => product * n, 1);
  const width = byteWidth(dtypeOf(place));
  return [{ from: place.offset * width, length: span * width }];
}

function rowCount(place: Place, shape: BatchShape): number {
  return place.per === "row" ? shape.rows : shape.sequences;
}

function denseView(place: Place, epoch: number, bytes: Uint8Array, shape: BatchShape): CapturedValue["view"] {
  const strides = new Array<number>(place.shape.length).fill(1);
  for (let k = strides.length - 2; k >= 0; k--) strides[k] = strides[k + 1]! * place.shape[k + 1]!;
  return {
    kind: "dense",
    storage: place.buffer.label,
    epoch,
    dtype: dtypeOf(place),
    shape: [rowCount(place, shape), ...place.shape],
    strides: [place.rowStride, ...strides],
    offset: place.offset,
    bytes,
  };
}

function pagedView(
  { buffer }: Tap,
  epoch: number,
  pageBytes: Uint8Array[],
  { store, pages }: CaptureTarget,
): CapturedValue["view"] {
  const { layout, pageSize, heads, headDim, dtype } = store.options;
  const addressing = { layout, pageSize, heads, headDim, dtype, strides: store.strides, offset: 0 };
  return { kind: "paged", storage: buffer.label, epoch, ...addressing, pages, pageBytes };
}
