import { byteWidth, type DType, elementReader, encode } from "../../tensor/dtype.js";
import type { CapturedPages } from "../run/captured-value.js";

export interface PagesShape {
  readonly pageCount: number;
  readonly pageSize: number;
  readonly heads: number;
  readonly headDim: number;
}

/** Pages of one cache in host memory, NHD: [pages, page_size, heads, head_dim], stored in `dtype`. */
export class HostPages {
  readonly #bytes: Uint8Array;
  readonly #rowBytes: number;
  readonly #pageBytes: number;

  constructor(
    readonly name: string,
    readonly dtype: DType,
    readonly shape: PagesShape,
  ) {
    this.#rowBytes = shape.heads * shape.headDim * byteWidth(dtype);
    this.#pageBytes = this.#rowBytes * shape.pageSize;
    this.#bytes = new Uint8Array(this.#pageBytes * shape.pageCount);
  }

  /** Stores row i of `values` [rows, heads × head_dim] at slot i of `slots`. */
  write(slots: Int32Array, values: Float64Array): void {
    const encoded = encode(values, this.dtype);
    for (let i = 0; i < slots.length; i++) {
      const row = encoded.subarray(i * this.#rowBytes, (i + 1) * this.#rowBytes);
      this.#bytes.set(row, slots[i]! * this.#rowBytes);
    }
  }

  /** What lies at `slot`, [heads × head_dim]. */
  read(slot: number): Float64Array {
    const { heads, headDim } = this.shape;
    const width = byteWidth(this.dtype);
    const view = new DataView(this.#bytes.buffer, slot * this.#rowBytes, this.#rowBytes);
    const element = elementReader(this.dtype);
    const out = new Float64Array(heads * headDim);
    for (let i = 0; i < out.length; i++) out[i] = element(view, i * width);
    return out;
  }

  /** Fills whole pages with a 32-bit pattern. */
  fill(pages: readonly number[], word: number): void {
    for (const page of pages) {
      const at = page * this.#pageBytes;
      const view = new DataView(this.#bytes.buffer, at, this.#pageBytes);
      for (let i = 0; i + 4 <= this.#pageBytes; i += 4) view.setUint32(i, word, true);
    }
  }

  /** A copy of some pages, as their writer and reader address them. */
  view(pages: readonly number[], epoch: number): CapturedPages {
    const { pageSize, heads, headDim } = this.shape;
    const row = heads * headDim;
    return {
      kind: "paged",
      storage: this.name,
      epoch,
      dtype: this.dtype,
      layout: "NHD",
      pageSize,
      heads,
      headDim,
      strides: [pageSize * row, row, headDim, 1],
      offset: 0,
      pages,
      pageBytes: pages.map((page) => this.#bytes.slice(page * this.#pageBytes, (page + 1) * this.#pageBytes)),
    };
  }
}
