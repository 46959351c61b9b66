import type { PathMemory } from "../device/path-memory.js";
import type { Place } from "../device/places.js";
import { widestAttention } from "../device/widths.js";
import type { Gpu } from "./gpu.js";

/** Splits per sequence the state buffers have room for. */
export const mostSplits = 64;
/** Parts per row of the greedy search over the vocabulary. */
export const argmaxParts = 64;

/** What kernels of one path pass to each other and the spec has no name for; float32, made once for the largest batch. */
export class Workspace {
  /** States of split attention and their log-sum-exp. */
  readonly states: GPUBuffer;
  readonly stateLse: GPUBuffer;
  readonly attentionLse: GPUBuffer;
  readonly parts: GPUBuffer;
  /** The input of tensor cores in float16, with a power of two per row. */
  readonly halves: { readonly rows: GPUBuffer; readonly scales: GPUBuffer } | undefined;
  /** Element of `states` from which the decode kernel leaves rotated q and k for captures. */
  readonly shownAt: number;
  readonly #all: GPUBuffer[] = [];

  constructor(gpu: Gpu, { graph, weights, store, maxRows, maxSequences }: PathMemory) {
    const { heads, columns } = widestAttention(graph);
    const keys = store.options.heads * store.options.headDim;
    const make = (label: string, floats: number) => {
      const buffer = gpu.buffer(label, floats * 4);
      this.#all.push(buffer);
      return buffer;
    };
    this.shownAt = maxSequences * columns * mostSplits;
    this.states = make("states", this.shownAt + maxSequences * (columns + keys));
    this.stateLse = make("state lse", maxSequences * heads * mostSplits);
    this.attentionLse = make("attention lse", maxRows * heads);
    this.parts = make("argmax", maxSequences * argmaxParts * 4);
    if (gpu.features.has("matrix")) {
      const inputs = [...graph.nodes.values()].flatMap(({ op }) =>
        op.kind === "linear" ? [weights.matrix(op.attributes.weight as string).matrix.columns] : [],
      );
      const rows = Math.ceil(maxRows / 128) * 128;
      this.halves = { rows: make("halves", (rows * Math.max(...inputs)) / 2), scales: make("half scales", rows) };
    }
  }

  /** Where the decode kernel leaves rotated rows, [rows, heads, head_dim], beside others from `offset` on. */
  shown(place: Place, offset: number, rowStride: number): Place {
    return { ...place, buffer: this.states, rowStride, offset: this.shownAt + offset };
  }

  destroy(): void {
    for (const buffer of this.#all) buffer.destroy();
  }
}
