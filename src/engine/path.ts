import type { ModelConfig } from "../spec/models/config.js";
import type { DType } from "../tensor/dtype.js";

/**
 * One forward pass over a ragged batch: rows of several sequences, one after the other. Arrays are FlashInfer's CSR
 * contract; the page table already includes the batch's own tokens.
 */
export interface Batch {
  /** One id per sequence. */
  readonly seqIds: readonly number[];
  /** [rows] */
  readonly tokenIds: Int32Array;
  /** [sequences + 1] first row of each sequence. */
  readonly qoIndptr: Int32Array;
  /** [rows] absolute position in the sequence. */
  readonly positions: Int32Array;
  /** [sequences + 1] first entry of each sequence in `kvIndices`. */
  readonly kvIndptr: Int32Array;
  /** Physical pages. */
  readonly kvIndices: Int32Array;
  /** [sequences] tokens in each sequence's last page, 1 … pageSize; 0 for a sequence without keys. */
  readonly kvLastPageLen: Int32Array;
  /** [rows] page · pageSize + place in the page that each row's K and V go to. */
  readonly slotMapping: Int32Array;
  readonly pageSize: number;
}

/** How one sequence's next token is chosen. */
export interface Sampling {
  /** 0: the most likely token. */
  readonly temperature: number;
  /** Nucleus: the most likely tokens whose probability reaches this; 1 for all. */
  readonly topP: number;
  /** The draw is a function of seed, position and token alone. */
  readonly seed: number;
}

export const greedy: Sampling = { temperature: 0, topP: 1, seed: 0 };

/** A dense value in GPU memory at one moment, as a producer or a consumer addresses it. */
export interface CapturedDense {
  readonly kind: "dense";
  readonly storage: string;
  readonly epoch: number;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
  /** From the view's offset to its last element. */
  readonly bytes: Uint8Array;
}

/** KV pages as a writer or a reader addresses them; strides are in the order page, slot, head, channel. */
export interface CapturedPages {
  readonly kind: "paged";
  readonly storage: string;
  readonly epoch: number;
  readonly dtype: DType;
  readonly layout: "NHD" | "HND";
  readonly pageSize: number;
  readonly heads: number;
  readonly headDim: number;
  readonly strides: readonly [number, number, number, number];
  readonly offset: number;
  readonly pages: readonly number[];
  /** The page stride's worth of elements of each of `pages`, in that order. */
  readonly pageBytes: readonly Uint8Array[];
}

export interface CapturedValue {
  /** Name in the spec. */
  readonly name: string;
  /** output: as its producer wrote it; input: as a consumer addressed it. */
  readonly role: "output" | "input";
  /** The kernel that wrote or read it. */
  readonly by: string;
  readonly view: CapturedDense | CapturedPages;
}

/** Receives values in production order. `wants` keeps what is copied small. */
export interface CaptureSink {
  wants(name: string): boolean;
  value(value: CapturedValue): void;
}

export interface ForwardOptions {
  /** One per sequence; greedy when absent. */
  readonly sampling?: readonly Sampling[] | undefined;
  /** Also return the logits. */
  readonly logits?: boolean | undefined;
  readonly capture?: CaptureSink | undefined;
}

export interface ForwardResult {
  /** [sequences] next token of each sequence; meaningless where `finite` is false. */
  readonly tokenIds: Int32Array;
  /** [sequences] whether all logits were finite: NaN and infinity hide in argmax, so their bits are looked for. */
  readonly finite: readonly boolean[];
  /** [sequences, vocabulary] of each sequence's last row, when asked for. */
  readonly logits?: Float32Array;
}

export interface DecodeOptions {
  /** Tokens to generate per sequence, the first being made from `batch` itself. */
  readonly steps: number;
  /** Pages each sequence may grow into, in order, after those of its page table; enough for `steps - 1` more tokens. */
  readonly reserve: readonly (readonly number[])[];
  readonly sampling?: readonly Sampling[] | undefined;
  /** Steps per read-back; the GPU runs at most three read-backs ahead. @default 8 */
  readonly stepsPerRead?: number | undefined;
  /** Called in order with each step's tokens; returning false stops after the steps in flight. */
  readonly onTokens?:
    | ((step: number, tokenIds: Int32Array, finite: readonly boolean[]) => boolean | undefined)
    | undefined;
}

/** One way of running the model. All paths take the same batches and mean the same numbers. */
export interface Path {
  readonly name: string;
  readonly config: ModelConfig;
  readonly pageCount: number;
  readonly pageSize: number;
  /** Rows and sequences one batch may have. */
  readonly maxRows: number;
  readonly maxSequences: number;
  /** Runs one batch: appends its K and V, and returns the next token of every sequence. */
  forward(batch: Batch, options?: ForwardOptions): Promise<ForwardResult>;
  /**
   * Generates `steps` tokens for every sequence of a batch with one row per sequence, without waiting for the host in
   * between: each sampled token is the next step's input on the GPU. Steps that ran are all returned, in order; the
   * last token of each sequence has not been appended.
   */
  decode(batch: Batch, options: DecodeOptions): Promise<Int32Array[]>;
  /** Fills whole pages of every layer's cache with the bit pattern `word` (32 bits): recycled memory must not matter. */
  poisonPages(pages: readonly number[], word: number): void;
  dispose(): void;
}
