import type { PagedView } from "./format.js";
import { elementOfColumn, type Pieces, piecesOfHeads } from "./pieces.js";

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

/** Where the first column of entry `entry` lies within the recorded bytes of its page, in elements. */
export function startOfEntry(view: PagedView, entry: number): number {
  return elementsBefore(view) + entry * view.strides[1]!;
}

/** Where the columns of an entry lie from there on. */
export function piecesOfEntry({ heads, head_dim: headDim, strides }: PagedView): Pieces {
  return piecesOfHeads(heads, headDim, strides[2]!, strides[3]!);
}

/** Where column `column` of entry `entry` lies within the recorded bytes of its page, in elements. */
export function elementOfEntry(view: PagedView, entry: number, column: number): number {
  return startOfEntry(view, entry) + elementOfColumn(piecesOfEntry(view), column);
}

/** The last element of an entry. */
export function lastOfEntry(view: PagedView, entry: number): number {
  return elementOfEntry(view, entry, view.heads * view.head_dim - 1);
}

/** The last element of a page that the view reaches. */
export function lastElement(view: PagedView): number {
  return lastOfEntry(view, view.page_size - 1);
}
