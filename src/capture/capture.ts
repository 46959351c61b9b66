import type { TensorEntry } from "../tensor/safetensors.js";
import type { TensorFile } from "../tensor/tensor-file.js";
import type { DenseView, Manifest, PagedView, SampleEvent, Shard, StepEvent, SumTerm } from "./format.js";
import type { Padding } from "./padding.js";

/** Where a recorded tensor's bytes lie. */
export interface TensorSource {
  readonly file: TensorFile;
  readonly entry: TensorEntry;
}

/** Who recorded a value and which part of it, where a run has ranks. */
export interface RankedRecord {
  readonly rank?: number | undefined;
  /** Which part of an axis the record holds; the whole value when absent. */
  readonly shard?: Shard | undefined;
  /** Which term of the sum over ranks it holds; the value itself when absent. */
  readonly partial?: SumTerm | undefined;
}

/** A value recorded with its addressing. Element i lies at Σ i_k · strides_k of the span. */
export interface DenseRecord extends RankedRecord {
  readonly step: number;
  readonly name: string;
  readonly role: "output" | "input";
  readonly by: string | undefined;
  readonly view: DenseView;
  readonly source: TensorSource;
  /** Element of the bytes that the view begins at, where the value is part of what was recorded. @default 0 */
  readonly first?: number;
  /** Place in production order. */
  readonly order: number;
}

/** KV pages as their writer or reader addressed them. */
export interface PagedRecord extends RankedRecord {
  readonly step: number;
  readonly name: string;
  readonly role: "output" | "input";
  readonly by: string | undefined;
  readonly view: PagedView;
  readonly pages: ReadonlyMap<number, TensorSource>;
  readonly order: number;
}

export type ValueRecord = DenseRecord | PagedRecord;

export function isPagedRecord(record: ValueRecord): record is PagedRecord {
  return "pages" in record;
}

/** A run of several ranks. */
export interface RankedRun {
  readonly world: number;
  /** The steps as each rank recorded them. */
  readonly steps: ReadonlyMap<number, readonly StepEvent[]>;
}

/** A recorded run, opened: events in memory, tensor bytes on disk. */
export interface Capture {
  readonly path: string;
  /** "faultline" for a capture directory, "plain" for a safetensors file of module outputs. */
  readonly kind: "faultline" | "plain";
  readonly manifest: Manifest;
  /** Of several ranks' the first one's. */
  readonly steps: readonly StepEvent[];
  /** Present in format version 2. */
  readonly ranks?: RankedRun | undefined;
  /** Where the real tokens of padded batches lie, by number of the step; such a step has rows for them alone. */
  readonly paddings?: ReadonlyMap<number, Padding> | undefined;
  readonly samples: readonly SampleEvent[];
  readonly records: readonly ValueRecord[];
  /** What could not be read and why: events of a step whose tensors were lost in a crash, unknown tensors. */
  readonly skipped: readonly { value: string; why: string }[];
  close(): void;
}
