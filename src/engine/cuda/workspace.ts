import type { PathMemory } from "../device/path-memory.js";
import { widestAttention } from "../device/widths.js";
import type { Cuda } from "./cuda.js";
import type { CudaBuffer } from "./memory.js";

/** Splits per sequence the state buffers have room for. */
export const mostSplits = 64;
/** Parts per row of the search for the greatest logit. */
export const argmaxParts = 128;

/** What kernels of one path pass to each other and the spec has no name for; float32, made once for the largest batch. */
export class Workspace {
  /** States of split attention [rows, heads, splits, head_dim] and their log-sum-exp. */
  readonly states: CudaBuffer;
  readonly stateLse: CudaBuffer;
  readonly attentionLse: CudaBuffer;
  readonly parts: CudaBuffer;

  constructor(cuda: Cuda, { graph, maxRows, maxSequences }: PathMemory) {
    const { heads, columns } = widestAttention(graph);
    this.states = cuda.buffer("states", maxSequences * columns * mostSplits * 4);
    this.stateLse = cuda.buffer("state lse", maxSequences * heads * mostSplits * 4);
    this.attentionLse = cuda.buffer("attention lse", maxRows * heads * 4);
    this.parts = cuda.buffer("argmax", maxSequences * argmaxParts * 16);
  }

  destroy(): void {
    for (const buffer of [this.states, this.stateLse, this.attentionLse, this.parts]) buffer.destroy();
  }
}
