import type { DenseView, PagedView } from "../../capture/format.js";
import { CaptureWriter } from "../../capture/writer.js";
import type { Batch } from "../run/batch.js";
import type { CapturedDense, CapturedPages, CapturedValue } from "../run/captured-value.js";
import type { ForwardResult } from "../run/path.js";
import type { Recorder } from "./generation.js";

export interface RecordingOptions {
  /** Parsed `config.json`. */
  readonly model: Record<string, unknown>;
  /** What ran: name of the path, device and dtype of its values. */
  readonly runtime: {
    readonly name: string;
    readonly version?: string;
    readonly device: string;
    readonly dtype: string;
  };
  /** Values to record by name. @default all */
  readonly wants?: ((name: string) => boolean) | undefined;
}

/** Writes a run as a capture directory, format version 1. */
export class Recording implements Recorder {
  readonly #writer: CaptureWriter;
  readonly #wants: (name: string) => boolean;
  #step = -1;

  /** @throws InputError when `directory` is not empty. */
  constructor(directory: string, options: RecordingOptions) {
    const { model, runtime, wants } = options;
    this.#writer = new CaptureWriter(directory, { model, runtime });
    this.#wants = wants ?? (() => true);
  }

  wants(name: string): boolean {
    return this.#wants(name);
  }

  begin(batch: Batch): void {
    this.#step++;
    this.#writer.step({
      event: "step",
      step: this.#step,
      seq_ids: [...batch.seqIds],
      token_ids: [...batch.tokenIds],
      qo_indptr: [...batch.qoIndptr],
      positions: [...batch.positions],
      kv_indptr: [...batch.kvIndptr],
      kv_indices: [...batch.kvIndices],
      kv_last_page_len: [...batch.kvLastPageLen],
      slot_mapping: [...batch.slotMapping],
      page_size: batch.pageSize,
    });
  }

  value({ name, role, by, view }: CapturedValue): void {
    if (view.kind === "dense") this.#writer.dense(name, role, denseView(view), view.bytes, by);
    else {
      const bytesOf = new Map(view.pages.map((page, i) => [page, view.pageBytes[i]!]));
      this.#writer.paged(name, role, pagedView(view), (page) => bytesOf.get(page)!, by);
    }
  }

  /** Tokens drawn at random are not recorded: logits alone do not determine them. */
  end({ tokenIds }: ForwardResult, greedy: boolean): void {
    if (greedy) this.#writer.sample({ event: "sample", step: this.#step, token_ids: [...tokenIds] });
    this.#writer.finishStep();
  }
}

function denseView({ storage, epoch, dtype, shape, strides, offset }: CapturedDense): DenseView {
  return { storage, epoch, dtype, shape: [...shape], strides: [...strides], offset };
}

function pagedView(view: CapturedPages): PagedView {
  const { storage, epoch, dtype, layout, heads, offset } = view;
  return {
    storage,
    epoch,
    dtype,
    layout,
    page_size: view.pageSize,
    heads,
    head_dim: view.headDim,
    strides: [...view.strides],
    offset,
    pages: [...view.pages],
  };
}
