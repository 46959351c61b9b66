import type { PagedView } from "./format.js";

/**
 * Where the elements of a KV page lie. Keys and values may share one storage: a view's offset then leads into the page
 * ([pages, 2, …]), or over whole pages to its own ([2, pages, …]).
 */

/** Pages of the storage that lie before page 0 of the view. */
export function pagesBefore({ strides, offset }: PagedView): number {
  return strides[0] ? Math.floor(offset / strides[0]) : 0;
}

/** Elements of a page that lie before the view's own part of it. */
export function elementsBefore({ strides, offset }: PagedView): number {
  return strides[0] ? offset % strides[0] : offset;
}

/** Where column `column` of entry `entry` lies within the recorded bytes of its page, in elements. */
export function elementOfEntry(view: PagedView, entry: number, column: number): number {
  const [, slot, head, channel] = view.strides as [number, number, number, number];
  const ofHead = Math.floor(column / view.head_dim) * head + (column % view.head_dim) * channel;
  return elementsBefore(view) + entry * slot + ofHead;
}

/** The last element of a page that the view reaches. */
export function lastElement(view: PagedView): number {
  return elementOfEntry(view, view.page_size - 1, view.heads * view.head_dim - 1);
}
