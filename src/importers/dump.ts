import type { TensorSource } from "../capture/capture.js";
import type { StepEvent } from "../capture/format.js";
import type { DType } from "../tensor/dtype.js";

/** One tensor of someone else's recording, with its memory as it was recorded. */
export interface DumpTensor {
  /** What the dump calls it; the same in every step, and once in each. */
  readonly name: string;
  readonly step: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** In elements. */
  readonly strides: readonly number[];
  /** Element of the source that it begins at. */
  readonly first: number;
  /** Memory that it is a view of: two tensors that name the same alias. */
  readonly storage: string;
  readonly source: TensorSource;
}

/** What a recorder is known to call things: a value of the spec, or several side by side. */
export interface KnownName {
  /** Name of the spec, of a value or of one that its module returns together with others. */
  readonly value: string;
  /** Columns of the tensor that hold it: first and count, where it is one of several. */
  readonly columns?: readonly [number, number] | undefined;
  readonly role?: "output" | "input" | undefined;
  readonly by?: string | undefined;
}

/** A recording in someone else's format: tensors in the order in which they were recorded. */
export interface Dump {
  readonly path: string;
  /** Who made it, for people. */
  readonly format: string;
  readonly tensors: readonly DumpTensor[];
  /** What is no tensor that can be read, and why. */
  readonly skipped: readonly { value: string; why: string }[];
  /** Tensors that hold token ids and what belongs to them, where the format says so. */
  readonly tokens?: TokenTensors | undefined;
  /** Sequences, pages and positions of each step, where the format has them; tokens excepted. */
  readonly steps?: readonly DumpStep[] | undefined;
  /** Whether its tensors stand in the order in which they were made. */
  readonly ordered: boolean;
}

/** One forward pass, tokens excepted. */
export type DumpStep = Pick<
  StepEvent,
  | "step"
  | "seq_ids"
  | "qo_indptr"
  | "positions"
  | "kv_indptr"
  | "kv_indices"
  | "kv_last_page_len"
  | "slot_mapping"
  | "page_size"
>;

/** Names of the tensors that say which tokens a step computed. */
export interface TokenTensors {
  /** [tokens] or [batch, tokens]. */
  readonly input_ids: string;
  /** The shape of `input_ids`, or one sequence's. */
  readonly positions?: string | undefined;
  /** [sequences]: keys of each sequence, the step's own included. */
  readonly lengths?: string | undefined;
  /** [sequences]: what tells one sequence from another. */
  readonly sequences?: string | undefined;
  /** [batch, tokens]: 1 for a token, 0 for padding. */
  readonly attention_mask?: string | undefined;
}

/** A recorder's format. */
export interface DumpFormat {
  readonly id: string;
  /** For people: whose format it is. */
  readonly title: string;
  /** Whether a path is such a recording, by names alone. */
  claims(path: string): boolean;
  /** @throws InputError when it cannot be read. */
  open(path: string): Dump;
}
