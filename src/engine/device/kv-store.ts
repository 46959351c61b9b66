import type { Graph } from "../../spec/graph.js";
import { byteWidth, type DType } from "../../tensor/dtype.js";
import type { Backend, DeviceBuffer } from "./backend.js";
import { formatOf } from "./element-format.js";
import type { CacheView } from "./tensor.js";

export type KvLayout = "NHD" | "HND";

/** Strides in elements, in the order page, slot, head, channel. */
export type PagedStrides = readonly [number, number, number, number];

/** Strides of a contiguous cache: NHD [pages, page_size, heads, head_dim], HND [pages, heads, page_size, head_dim]. */
export function pagedStrides(layout: KvLayout, pageSize: number, heads: number, headDim: number): PagedStrides {
  const page = pageSize * heads * headDim;
  return layout === "NHD" ? [page, heads * headDim, headDim, 1] : [page, headDim, pageSize * headDim, 1];
}

export interface KvStoreOptions {
  readonly pageCount: number;
  readonly pageSize: number;
  readonly heads: number;
  readonly headDim: number;
  readonly layout: KvLayout;
  readonly dtype: DType;
}

/** The paged KV cache: a buffer of its own for every append of the spec, so that layers do not wait for each other. */
export class KvStore {
  readonly strides: PagedStrides;
  readonly #buffers = new Map<string, DeviceBuffer>();

  constructor(
    readonly backend: Backend,
    graph: Graph,
    readonly options: KvStoreOptions,
  ) {
    const { layout, pageSize, heads, headDim, dtype } = options;
    formatOf(dtype, "KV cache");
    this.strides = pagedStrides(layout, pageSize, heads, headDim);
    for (const { name, op } of graph.nodes.values()) {
      if (op.kind === "append") this.#buffers.set(name, backend.buffer(name, options.pageCount * this.pageBytes));
    }
  }

  get pageBytes(): number {
    return this.strides[0] * byteWidth(this.options.dtype);
  }

  /** The pages that the append `name` of the spec fills, or undefined when it is no append. */
  find(name: string): DeviceBuffer | undefined {
    return this.#buffers.get(name);
  }

  /** The caches of one layer as attention addresses them. */
  view(keys: string, values: string): CacheView {
    const { dtype, pageCount } = this.options;
    const [page, slot, head] = this.strides;
    const side = (name: string) => ({ buffer: this.#buffers.get(name)!, dtype, shape: [pageCount * page] });
    const strides = [page, slot, head] as const;
    return { keys: side(keys), values: side(values), pageCount, keyStrides: strides, valueStrides: strides };
  }

  /** Fills whole pages of every layer with a 32-bit pattern. */
  fill(pages: readonly number[], word: number): void {
    const pattern = new Uint32Array(this.pageBytes / 4).fill(word);
    for (const buffer of this.#buffers.values()) {
      for (const page of pages) this.backend.write(buffer, page * this.pageBytes, pattern);
    }
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }
}
