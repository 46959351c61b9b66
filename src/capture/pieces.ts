/**
 * Where the columns of one row lie: in `count` pieces whose first elements are `apart` from one another, each of `length`
 * columns that are `step` apart. In elements.
 */
export interface Pieces {
  readonly count: number;
  readonly length: number;
  readonly apart: number;
  readonly step: number;
}

/** Columns that are `step` apart throughout. */
export function onePiece(columns: number, step: number): Pieces {
  return { count: 1, length: columns, apart: 0, step };
}

/** A piece per head; one in all where heads follow each other as their channels do. */
export function piecesOfHeads(heads: number, headDim: number, apart: number, step: number): Pieces {
  if (heads === 1 || apart === headDim * step) return onePiece(heads * headDim, step);
  return { count: heads, length: headDim, apart, step };
}

/** Column `column`, from the first one on. */
export function elementOfColumn({ length, apart, step }: Pieces, column: number): number {
  return Math.floor(column / length) * apart + (column % length) * step;
}

/** The nearest and the farthest of a row's elements, from its first column on. */
export function reachOf({ count, length, apart, step }: Pieces): readonly [number, number] {
  const ends = [0, (count - 1) * apart, (length - 1) * step, (count - 1) * apart + (length - 1) * step];
  return [Math.min(...ends), Math.max(...ends)];
}
