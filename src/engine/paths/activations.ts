import type { ModelConfig } from "../../spec/models/config.js";
import type { Gpu } from "../webgpu/device.js";

/** Splits per sequence the state buffers have room for. */
export const mostSplits = 64;
/** Splits that the output projection merges itself. */
export const fusedSplits = 8;
/** Parts per row of the greedy search over the vocabulary. */
export const argmaxParts = 64;

/** Every intermediate buffer of a path, float32, made once for the largest batch. */
export class Activations {
  readonly hidden: GPUBuffer;
  readonly middle: GPUBuffer;
  readonly normed: GPUBuffer;
  readonly queryKeyValue: GPUBuffer;
  readonly queryNormed: GPUBuffer;
  readonly keyNormed: GPUBuffer;
  readonly query: GPUBuffer;
  readonly key: GPUBuffer;
  readonly states: GPUBuffer;
  readonly stateLse: GPUBuffer;
  readonly attention: GPUBuffer;
  readonly attentionLse: GPUBuffer;
  readonly projected: GPUBuffer;
  readonly gateUp: GPUBuffer;
  readonly activated: GPUBuffer;
  readonly product: GPUBuffer;
  readonly logits: GPUBuffer;
  readonly parts: GPUBuffer;
  /** The input of tensor cores in float16, with a power of two per row. */
  readonly halves: { rows: GPUBuffer; scales: GPUBuffer } | undefined;
  /** Element of `states` from which the decode kernel leaves rotated q and k for captures. */
  readonly captureAt: number;
  readonly #all: GPUBuffer[] = [];

  constructor(gpu: Gpu, config: ModelConfig, maxRows: number, maxSequences: number, matrix: boolean) {
    const { hiddenSize, intermediateSize, headDim, headCount, keyValueHeadCount } = config;
    const queries = headCount * headDim;
    const keys = keyValueHeadCount * headDim;
    const make = (label: string, floats: number) => {
      const buffer = gpu.buffer(label, floats * 4);
      this.#all.push(buffer);
      return buffer;
    };
    this.hidden = make("hidden", maxRows * hiddenSize);
    this.middle = make("middle", maxRows * hiddenSize);
    this.normed = make("normed", maxRows * hiddenSize);
    this.queryKeyValue = make("qkv", maxRows * (queries + 2 * keys));
    this.queryNormed = make("q_norm", maxRows * queries);
    this.keyNormed = make("k_norm", maxRows * keys);
    this.query = make("q_rope", maxRows * queries);
    this.key = make("k_rope", maxRows * keys);
    this.captureAt = maxSequences * queries * mostSplits;
    this.states = make("states", this.captureAt + maxSequences * (queries + keys));
    this.stateLse = make("state_lse", maxSequences * headCount * mostSplits);
    this.attention = make("attention", maxRows * queries);
    this.attentionLse = make("attention_lse", maxRows * headCount);
    this.projected = make("projected", maxRows * hiddenSize);
    this.gateUp = make("gate_up", maxRows * 2 * intermediateSize);
    this.activated = make("act", maxRows * intermediateSize);
    this.product = make("mlp", maxRows * intermediateSize);
    this.logits = make("logits", maxSequences * config.vocabularySize);
    this.parts = make("argmax", maxSequences * argmaxParts * 4);
    if (matrix) {
      const widest = Math.max(hiddenSize, queries, intermediateSize);
      const rows = Math.ceil(maxRows / 128) * 128;
      this.halves = { rows: make("halves", (rows * widest) / 2), scales: make("half scales", rows) };
    }
  }

  destroy(): void {
    for (const buffer of this.#all) buffer.destroy();
  }
}
