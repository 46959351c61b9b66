import type { PagedView } from "../capture/format.js";
import { pagesBefore } from "../capture/page-view.js";
import type { CaptureWriter } from "../capture/writer.js";
import type { GraphNode } from "../spec/graph.js";
import type { PlacedStep, RowTable } from "../spec/rows.js";
import { encode } from "../tensor/dtype.js";
import { type CacheType, scalesOf, storedNumbers } from "./cache-type.js";

/** How a runtime keeps its KV cache: in pages of some type, K and V apart or together. */
export interface CacheLayout extends CacheType {
  readonly layout: "NHD" | "HND";
  readonly pageSize: number;
  /** K and V in one storage: side by side in every page ([pages, 2, …]) or one after the other ([2, pages, …]). */
  readonly combined?: "page" | "buffer";
  /** Whether kernels round what they read to the run's type before they use it. */
  readonly roundedReads?: boolean;
}

/** What a step's metadata says about its pages. */
export interface PageMetadata {
  readonly kv_indptr: number[];
  readonly kv_indices: number[];
  readonly kv_last_page_len: number[];
  readonly slot_mapping: number[];
  readonly page_size: number;
}

/** Pages that are never handed out, so that physical pages are not those a sequence counts. */
const unusedPages = 3;

/** The KV pages of a run: tables of all sequences, and one storage per layer or per layer and side. */
export class PagedCache {
  readonly pageCount: number;
  readonly #tables = new Map<number, number[]>();
  readonly #storages = new Map<string, Float64Array>();
  #handedOut = 0;

  /** @param rows the table with all steps of the run: it says how many pages the sequences will need. */
  constructor(
    readonly options: CacheLayout,
    readonly rows: RowTable,
  ) {
    const longest = new Map<number, number>();
    for (const { seqIds, lengths } of rows.steps) for (const [b, id] of seqIds.entries()) longest.set(id, lengths[b]!);
    const needed = [...longest.values()].reduce((sum, length) => sum + Math.ceil(length / options.pageSize), 0);
    this.pageCount = needed + unusedPages;
  }

  /** Gives the sequences of a step the pages they need by its end. */
  place(step: PlacedStep): PageMetadata {
    const { pageSize } = this.options;
    const kvIndptr = [0];
    const tables = step.seqIds.map((id, b) => {
      const table = this.#tables.get(id) ?? [];
      this.#tables.set(id, table);
      while (table.length * pageSize < step.lengths[b]!) table.push(this.#nextPage());
      kvIndptr.push(kvIndptr.at(-1)! + table.length);
      return table;
    });
    return {
      kv_indptr: kvIndptr,
      kv_indices: tables.flat(),
      kv_last_page_len: step.lengths.map((length) => (length === 0 ? 0 : ((length - 1) % pageSize) + 1)),
      slot_mapping: Array.from({ length: step.rowCount }, (_, i) => this.#slotOf(step.firstRow + i)),
      page_size: pageSize,
    };
  }

  /** The pages of a step's tables as the side's writer and readers address them. */
  view({ name, columns, heads, site }: GraphNode, step: PlacedStep, epoch: number): PagedView {
    const { layout, pageSize, combined, dtype } = this.options;
    const width = columns / heads!;
    const half = pageSize * columns;
    const page = combined === "page" ? 2 * half : half;
    const isValue = site.what === "value-cache";
    const between = combined === "page" ? half : combined === "buffer" ? this.pageCount * half : 0;
    return {
      storage: combined ? `kv_cache of layer ${site.layer}` : name,
      epoch,
      dtype,
      layout,
      page_size: pageSize,
      heads: heads!,
      head_dim: width,
      strides: layout === "NHD" ? [page, columns, width, 1] : [page, width, pageSize * width, 1],
      offset: isValue ? between : 0,
      pages: [...new Set(step.seqIds.flatMap((id) => this.#tables.get(id)!))],
    };
  }

  /**
   * Records both sides of each layer's cache, as written and as read, after a step's rows were appended.
   * @param read values of a cache's rows of the step as they are read, [rows, columns].
   */
  record(
    writer: CaptureWriter,
    caches: readonly GraphNode[],
    step: PlacedStep,
    epoch: number,
    read: (name: string) => Float64Array,
  ): void {
    const views = caches.map((node) => ({ name: node.name, view: this.view(node, step, epoch) }));
    for (const { name, view } of views) this.append(view, step, storedNumbers(read(name), name, this.options));
    for (const role of ["output", "input"] as const) {
      const by = role === "output" ? "append" : "attention";
      for (const { name, view } of views) {
        const scale = scalesOf(this.options, name).claimed[role];
        const claimed = scale === undefined ? view : { ...view, scale };
        writer.paged(name, role, claimed, (page) => this.pageBytes(view, page), by);
      }
    }
  }

  /** Stores numbers of a step's rows, [rows, columns], as the view's dtype is to hold them. */
  append(view: PagedView, step: PlacedStep, stored: Float64Array): void {
    const storage = this.#storage(view);
    const [page, slot, head, channel] = view.strides as [number, number, number, number];
    const columns = view.heads * view.head_dim;
    for (let i = 0; i < step.rowCount; i++) {
      const at = this.#slotOf(step.firstRow + i);
      const start = Math.floor(at / view.page_size) * page + (at % view.page_size) * slot + view.offset;
      for (let c = 0; c < columns; c++) {
        const ofHead = Math.floor(c / view.head_dim) * head + (c % view.head_dim) * channel;
        storage[start + ofHead] = stored[i * columns + c]!;
      }
    }
  }

  /** Bytes of a page of the view, from the start of that page of its storage. */
  pageBytes(view: PagedView, page: number): Uint8Array {
    const stride = view.strides[0]!;
    const first = (page + pagesBefore(view)) * stride;
    return encode(this.#storage(view).subarray(first, first + stride), view.dtype);
  }

  #storage({ storage, heads, head_dim: width, page_size: pageSize }: PagedView): Float64Array {
    let known = this.#storages.get(storage);
    if (!known) {
      const sides = this.options.combined ? 2 : 1;
      known = new Float64Array(sides * this.pageCount * pageSize * heads * width).fill(0.5);
      this.#storages.set(storage, known);
    }
    return known;
  }

  #slotOf(row: number): number {
    const { pageSize } = this.options;
    const position = this.rows.position[row]!;
    return (
      this.#tables.get(this.rows.seqId[row]!)![Math.floor(position / pageSize)]! * pageSize + (position % pageSize)
    );
  }

  /** Physical pages from the last one down. */
  #nextPage(): number {
    return this.pageCount - 1 - this.#handedOut++;
  }
}
