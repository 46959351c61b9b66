import { elementOfColumn, onePiece, type Pieces, piecesOfHeads } from "./pieces.js";

/** Sizes a view's axes may have: rows of the step, heads and channels of the value. */
export interface AxisSizes {
  /** Sequences times tokens per sequence, when all sequences of the step have the same number of rows. */
  readonly batch?: { readonly sequences: number; readonly tokens: number } | undefined;
  readonly rows: number;
  readonly columns: number;
  readonly heads?: number | undefined;
}

/** Where element (row, column) of a value lies in a view: strides of its logical axes, in elements. */
export interface AxisMap {
  /** Axis order in the letters of the capture format: b batch, t token, h head, d channel within a head, c channel. */
  readonly order: string;
  /** Where a row's first column lies. */
  startOf(row: number): number;
  /** Where its columns lie from there on. */
  readonly pieces: Pieces;
  elementOf(row: number, column: number): number;
}

/** Orders tried, the spec's own first. */
const orders = ["t c", "b t c", "t h d", "b t h d", "h t d", "b h t d", "t b c", "b c t", "c t"];

/**
 * Maps rows and columns of a value onto a recorded shape. `dims` names the axis order; without it, the first order that
 * fits the shape is taken, the spec's own before others.
 * @returns undefined when no order fits.
 */
export function mapAxes(
  shape: readonly number[],
  strides: readonly number[],
  sizes: AxisSizes,
  dims?: string,
): AxisMap | undefined {
  if (dims) return mapOrder(shape, strides, sizes, dims.trim().split(/\s+/)) ?? undefined;
  for (const order of orders) {
    const map = mapOrder(shape, strides, sizes, order.split(" "));
    if (map) return map;
  }
  return undefined;
}

function mapOrder(
  shape: readonly number[],
  strides: readonly number[],
  sizes: AxisSizes,
  letters: readonly string[],
): AxisMap | undefined {
  if (letters.length !== shape.length) return undefined;
  const stride: Record<string, number> = {};
  const headDim = sizes.heads ? sizes.columns / sizes.heads : undefined;
  const batched = letters.includes("b");
  const expected: Record<string, number | undefined> = {
    b: sizes.batch?.sequences,
    t: batched ? sizes.batch?.tokens : sizes.rows,
    h: sizes.heads,
    d: headDim,
    c: sizes.columns,
  };
  for (let k = 0; k < letters.length; k++) {
    const letter = letters[k]!;
    if (expected[letter] !== shape[k] || letter in stride) return undefined;
    stride[letter] = strides[k]!;
  }
  if (!("t" in stride) || !("c" in stride || ("h" in stride && "d" in stride))) return undefined;
  const tokens = expected.t!;
  const { b = 0, t = 0, h = 0, d = 0, c = 0 } = stride;
  const pieces = "c" in stride ? onePiece(sizes.columns, c) : piecesOfHeads(sizes.heads!, headDim!, h, d);
  const startOf = batched
    ? (row: number) => Math.floor(row / tokens) * b + (row % tokens) * t
    : (row: number) => row * t;
  return {
    order: letters.join(" "),
    startOf,
    pieces,
    elementOf: (row, column) => startOf(row) + elementOfColumn(pieces, column),
  };
}

/** The same elements, so many behind. */
export function beginningAt(axes: AxisMap, first: number): AxisMap {
  if (first === 0) return axes;
  return {
    ...axes,
    startOf: (row) => first + axes.startOf(row),
    elementOf: (row, column) => first + axes.elementOf(row, column),
  };
}

/** The `dims` entry for a value name: an exact name, or a pattern with one leading `*`. */
export function dimsFor(dims: Readonly<Record<string, string>> | undefined, name: string): string | undefined {
  if (!dims) return undefined;
  if (Object.hasOwn(dims, name)) return dims[name];
  for (const [pattern, order] of Object.entries(dims))
    if (pattern.startsWith("*") && name.endsWith(pattern.slice(1))) return order;
  return undefined;
}
