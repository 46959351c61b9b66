import { existsSync } from "node:fs";
import { join } from "node:path";
import { byteWidth } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { SafetensorsFile } from "../tensor/safetensors.js";
import type { TensorSource, ValueRecord } from "./capture.js";
import {
  type DenseView,
  isPaged,
  type PagedView,
  pageName,
  placedSpanName,
  spanName,
  stepFileName,
  type ValueEvent,
} from "./format.js";
import { elementsBefore, lastElement, pagesBefore } from "./page-view.js";

/** The tensor files of a capture directory, one per step: where the bytes of its value events lie. */
export class StepFiles {
  readonly #files = new Map<number, SafetensorsFile>();
  /** Which page of its storage the bytes of a tensor were taken for, over all views so far. */
  readonly #claims = new Map<TensorSource["entry"], number>();

  constructor(readonly directory: string) {}

  /**
   * The record of a value event, or undefined when the step's file was never written.
   * @param event of `rank`, where the run has ranks.
   * @param where file and line for errors.
   * @throws InputError when its bytes are not there, or its view reaches beyond them.
   */
  locate(event: ValueEvent, where: string, order: number, rank?: number): ValueRecord | undefined {
    const file = this.#fileOf(event.step);
    if (!file) return undefined;
    const { view, shard, partial } = event;
    const said = { step: event.step, name: event.name, role: event.role, by: event.by ?? undefined, order };
    const value = rank === undefined ? said : { ...said, rank, shard, partial };
    if (isPaged(view)) return { ...value, view, pages: this.#locatePages(view, file, where) };
    const entry = file.entries.get(placedSpanName(view)) ?? file.entries.get(spanName(view));
    if (!entry) throw new InputError(`${where}: view.storage: ${file.path} has no tensor "${spanName(view)}"`);
    checkDense(view, entry.byteLength, where);
    return { ...value, view, source: { file, entry } };
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }

  #fileOf(step: number): SafetensorsFile | undefined {
    const known = this.#files.get(step);
    if (known) return known;
    const path = join(this.directory, stepFileName(step));
    if (!existsSync(path)) return undefined;
    const file = new SafetensorsFile(path);
    this.#files.set(step, file);
    return file;
  }

  /**
   * The bytes of each page of a view. A view that begins whole pages into its storage finds them under the storage's page
   * number; where only the view's own number was recorded, they are taken unless another view reads another page from them.
   */
  #locatePages(view: PagedView, file: SafetensorsFile, where: string): Map<number, TensorSource> {
    const before = pagesBefore(view);
    const pages = new Map<number, TensorSource>();
    for (const page of view.pages) {
      const tensor = pageName(view, page + before);
      const entry = file.entries.get(tensor) ?? file.entries.get(pageName(view, page));
      if (!entry) throw new InputError(`${where}: view.pages: ${file.path} has no tensor "${tensor}"`);
      const claimed = this.#claims.get(entry) ?? page + before;
      if (claimed !== page + before) {
        throw new InputError(
          `${where}: view.offset: expected tensor "${tensor}" for page ${page} of a view that begins ${before} pages into its storage; "${entry.name}" holds page ${claimed} of the storage`,
        );
      }
      this.#claims.set(entry, claimed);
      checkPage(view, entry.byteLength, where);
      pages.set(page, { file, entry });
    }
    return pages;
  }
}

function checkDense(view: DenseView, byteLength: number, where: string): void {
  if (view.strides.length !== view.shape.length) {
    throw new InputError(`${where}: view.strides: expected ${view.shape.length} numbers, found ${view.strides.length}`);
  }
  if (view.shape.includes(0)) throw new InputError(`${where}: view.shape: expected at least one element`);
  let last = 0;
  let first = 0;
  view.shape.forEach((n, k) => {
    const reach = (n - 1) * view.strides[k]!;
    if (reach > 0) last += reach;
    else first += reach;
  });
  const available = Math.floor(byteLength / byteWidth(view.dtype));
  if (first < 0 || last >= available) {
    throw new InputError(
      `${where}: view: shape and strides reach element ${first < 0 ? first : last}, "${spanName(view)}" has ${available}`,
    );
  }
}

function checkPage(view: PagedView, byteLength: number, where: string): void {
  const last = lastElement(view);
  const available = Math.floor(byteLength / byteWidth(view.dtype));
  if (last >= available) {
    const field = elementsBefore(view) > 0 ? "offset" : "strides";
    throw new InputError(`${where}: view.${field}: a page reaches element ${last}, its record has ${available}`);
  }
}
