import type { ModelConfig } from "../../spec/models/config.js";
import type { Batch } from "./batch.js";
import type { CaptureSink } from "./captured-value.js";
import type { Sampling } from "./sampling.js";

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
