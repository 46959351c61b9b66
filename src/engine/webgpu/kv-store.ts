import { byteWidth, type DType } from "../../tensor/dtype.js";
import type { Gpu } from "./device.js";
import { formatOf } from "./kernels.js";

export type KvLayout = "NHD" | "HND";

/** Strides in elements, in the order page, slot, head, channel. */
export type PagedStrides = readonly [number, number, number, number];

/** Strides of a contiguous cache: NHD [pages, page_size, heads, head_dim], HND [pages, heads, page_size, head_dim]. */
export function pagedStrides(layout: KvLayout, pageSize: number, heads: number, headDim: number): PagedStrides {
  const page = pageSize * heads * headDim;
  return layout === "NHD" ? [page, heads * headDim, headDim, 1] : [page, headDim, pageSize * headDim, 1];
}

/** The paged KV cache of every layer: K and V each in a buffer of their own, so that layers do not wait for each other. */
export class KvStore {
  readonly keys: readonly GPUBuffer[];
  readonly values: readonly GPUBuffer[];
  readonly strides: PagedStrides;
  readonly format: number;

  constructor(
    readonly gpu: Gpu,
    readonly options: {
      readonly layers: number;
      readonly pageCount: number;
      readonly pageSize: number;
      readonly heads: number;
      readonly headDim: number;
      readonly layout: KvLayout;
      readonly dtype: DType;
    },
  ) {
    const { layers, layout, pageSize, heads, headDim, dtype } = options;
    this.format = formatOf(dtype, "KV cache");
    this.strides = pagedStrides(layout, pageSize, heads, headDim);
    const bytes = options.pageCount * this.pageBytes;
    const buffers = (name: string) =>
      Array.from({ length: layers }, (_, layer) => gpu.buffer(`layer ${layer} ${name} cache`, bytes));
    this.keys = buffers("key");
    this.values = buffers("value");
  }

  get pageBytes(): number {
    return this.strides[0] * byteWidth(this.options.dtype);
  }

  /** Fills whole pages of every layer with a 32-bit pattern. */
  fill(pages: readonly number[], word: number): void {
    const pattern = new Uint32Array(this.pageBytes / 4).fill(word);
    for (const buffer of [...this.keys, ...this.values]) {
      for (const page of pages) this.gpu.write(buffer, page * this.pageBytes, pattern);
    }
  }

  destroy(): void {
    for (const buffer of [...this.keys, ...this.values]) buffer.destroy();
  }
}
