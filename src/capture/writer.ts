import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { type TensorBytes, writeSafetensors } from "../tensor/safetensors.js";
import {
  type DenseView,
  type Manifest,
  type PagedView,
  pageName,
  placedSpanName,
  type SampleEvent,
  type StepEvent,
  spanName,
  stepFileName,
} from "./format.js";
import { pagesBefore } from "./page-view.js";

type ManifestContent = Omit<Manifest, "format" | "version"> & {
  /** How many ranks record into the directory, where a run has several. */
  readonly world?: number;
};

/** Which rank recorded a value, and what of it: a part of an axis, or a term of a sum. */
export interface RankedPart {
  readonly rank: number;
  readonly shard?: { readonly axis: "h" | "c" | "t"; readonly part: number; readonly of: number };
  readonly partial?: { readonly part: number; readonly of: number };
}

/**
 * Writes a capture directory, append-only: a step's tensors are on disk before its events name them, so a crash leaves
 * complete steps and nothing else.
 */
export class CaptureWriter {
  #lines: string[] = [];
  #tensors = new Map<string, TensorBytes>();
  #step: number | undefined;

  /** @throws InputError when `directory` exists and is not empty: nothing is overwritten. */
  constructor(
    readonly directory: string,
    manifest: ManifestContent,
  ) {
    createEmpty(directory);
    writeFileSync(
      join(directory, "manifest.json"),
      JSON.stringify({ format: "faultline-capture", version: manifest.world === undefined ? 1 : 2, ...manifest }),
      { flag: "wx" },
    );
    writeFileSync(join(directory, "events.jsonl"), "", { flag: "wx" });
  }

  /** The step that is being recorded; 0 before the first. */
  get currentStep(): number {
    return this.#step ?? 0;
  }

  /** Starts a step; the one before it is finished. */
  step(event: StepEvent): void {
    this.finishStep();
    this.#step = event.step;
    this.#lines.push(JSON.stringify(event));
  }

  /** Records a dense value; `bytes` is the span from the view's offset to its last element, as `view.dtype` or as stored in `storageDtype`. */
  dense(
    name: string,
    role: "output" | "input",
    view: DenseView,
    bytes: Uint8Array,
    by?: string,
    storageDtype: DType = view.dtype,
    ranked?: RankedPart,
  ): void {
    this.#tensor(view.offset > 0 ? placedSpanName(view) : spanName(view), bytes, storageDtype);
    this.#lines.push(JSON.stringify({ event: "value", step: this.#step, name, role, view, by: by ?? null, ...ranked }));
  }

  /**
   * Records KV pages; `pageBytes` gives the page stride's worth of elements of each page of the view, from the start of
   * the page: views that share a storage share its pages.
   */
  paged(
    name: string,
    role: "output" | "input",
    view: PagedView,
    pageBytes: (page: number) => Uint8Array,
    by?: string,
  ): void {
    for (const page of view.pages) {
      const tensor = pageName(view, page + pagesBefore(view));
      if (!this.#tensors.has(tensor)) this.#tensor(tensor, pageBytes(page), view.dtype);
    }
    this.#lines.push(JSON.stringify({ event: "value", step: this.#step, name, role, view, by: by ?? null }));
  }

  /** Records the sampled tokens, one per sequence. */
  sample(event: SampleEvent): void {
    this.#lines.push(JSON.stringify(event));
  }

  /** Writes what the current step recorded. */
  finishStep(): void {
    if (this.#step === undefined) return;
    writeSafetensors(join(this.directory, stepFileName(this.#step)), [...this.#tensors.values()]);
    appendFileSync(join(this.directory, "events.jsonl"), `${this.#lines.join("\n")}\n`);
    this.#lines = [];
    this.#tensors = new Map();
    this.#step = undefined;
  }

  #tensor(name: string, bytes: Uint8Array, dtype: DType): void {
    if (this.#step === undefined) throw new Error("a value was recorded before its step began");
    if (!this.#tensors.has(name))
      this.#tensors.set(name, { name, dtype, shape: [bytes.byteLength / byteWidth(dtype)], bytes: bytes.slice() });
  }
}

function createEmpty(directory: string): void {
  let entries: string[];
  try {
    mkdirSync(directory, { recursive: true });
    entries = readdirSync(directory);
  } catch {
    throw new InputError(`${directory}: expected a folder for the capture, but it cannot be created`);
  }
  if (entries.length > 0) throw new InputError(`${directory}: expected a new or empty directory for the capture`);
}

/** Row-major strides of a shape. */
export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let k = shape.length - 2; k >= 0; k--) strides[k] = strides[k + 1]! * shape[k + 1]!;
  return strides;
}
