import type { ModelConfig } from "../../spec/models/config.js";
import type { KvStore } from "../webgpu/kv-store.js";
import type { Activations } from "./activations.js";
import type { DenseTap, PagedTap } from "./program.js";

/** Where the spec's values of one decoder layer lie in a path's buffers, for captures. */
export class LayerValues {
  readonly path: string;
  /** heads · head_dim. */
  readonly queryColumns: number;
  /** kv_heads · head_dim. */
  readonly keyColumns: number;

  constructor(
    readonly config: ModelConfig,
    readonly buffers: Activations,
    readonly store: KvStore,
    readonly layer: number,
  ) {
    this.path = `model.layers.${layer}`;
    this.queryColumns = config.headCount * config.headDim;
    this.keyColumns = config.keyValueHeadCount * config.headDim;
  }

  /** The residual stream that enters the layer. */
  get stream(): DenseTap {
    const name = this.layer === 0 ? "model.embed_tokens" : `model.layers.${this.layer - 1}`;
    return this.wide(name, this.buffers.hidden, this.config.hiddenSize);
  }

  /** A value [rows, columns] that fills its buffer's rows. */
  wide(name: string, buffer: GPUBuffer, columns: number): DenseTap {
    return { kind: "dense", name, buffer, shape: [columns], rowStride: columns, offset: 0, per: "row" };
  }

  /** q_proj, k_proj or v_proj (part 0, 1, 2) within the packed q|k|v rows. */
  packed(name: string, part: 0 | 1 | 2): DenseTap {
    const offset = part === 0 ? 0 : this.queryColumns + (part - 1) * this.keyColumns;
    return {
      kind: "dense",
      name: `${this.path}.self_attn.${name}`,
      buffer: this.buffers.queryKeyValue,
      shape: [part === 0 ? this.queryColumns : this.keyColumns],
      rowStride: this.queryColumns + 2 * this.keyColumns,
      offset,
      per: "row",
    };
  }

  /** A value [rows, heads, head_dim] of the queries or the keys. */
  heads(name: string, buffer: GPUBuffer, side: "q" | "k"): DenseTap {
    const { config } = this;
    const heads = side === "q" ? config.headCount : config.keyValueHeadCount;
    return {
      kind: "dense",
      name: `${this.path}.self_attn.${name}`,
      buffer,
      shape: [heads, config.headDim],
      rowStride: heads * config.headDim,
      offset: 0,
      per: "row",
    };
  }

  /** Queries or keys after RoPE. */
  rotated(name: "q_rope" | "k_rope"): DenseTap {
    const { buffers } = this;
    return name === "q_rope" ? this.heads(name, buffers.query, "q") : this.heads(name, buffers.key, "k");
  }

  /** The KV cache as attention addresses it. */
  pages(name: "k_cache" | "v_cache"): PagedTap {
    const { store } = this;
    const buffer = (name === "k_cache" ? store.keys : store.values)[this.layer]!;
    return { kind: "paged", name: `${this.path}.self_attn.${name}`, buffer };
  }
}
