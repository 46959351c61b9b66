import type { ModelConfig } from "../../spec/models/config.js";
import type { Gpu } from "../webgpu/device.js";
import type { KvStore } from "../webgpu/kv-store.js";
import { attentionParameters } from "../webgpu/parameters.js";
import { BufferUsage } from "../webgpu/usage.js";

/** How attention kernels address queries and KV pages; layers of one window share a buffer. */
export class AttentionLayouts {
  readonly #buffers = new Map<string, GPUBuffer>();

  constructor(
    readonly gpu: Gpu,
    readonly config: ModelConfig,
    readonly store: KvStore,
  ) {}

  /** AttentionParameters of `layer`, for packed q|k|v rows or for dense q rows. */
  of(layer: number, packed: boolean): GPUBuffer {
    const { config, store } = this;
    const window = config.windowLeft(layer) ?? -1;
    const key = `${packed} ${window}`;
    let buffer = this.#buffers.get(key);
    if (!buffer) {
      const [page, slot, head] = store.strides;
      const queries = config.headCount * config.headDim;
      const columns = packed ? queries + 2 * config.keyValueHeadCount * config.headDim : queries;
      buffer = this.gpu.upload(
        "attention layout",
        attentionParameters.pack({
          scale: 1 / Math.sqrt(config.headDim),
          softCap: 0,
          windowLeft: window,
          causal: 1,
          queryRowStride: columns,
          queryHeadStride: config.headDim,
          queryOffset: 0,
          keyPageStride: page,
          keySlotStride: slot,
          keyHeadStride: head,
          keyOffset: 0,
          valuePageStride: page,
          valueSlotStride: slot,
          valueHeadStride: head,
          valueOffset: 0,
        }),
        BufferUsage.uniform,
      );
      this.#buffers.set(key, buffer);
    }
    return buffer;
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }
}
