import type { StoredWeight } from "./stored-weight.js";

/** Rows and columns that share a scale, and how many scales that makes. */
export interface ScaleTiles {
  readonly rows: number;
  readonly columns: number;
  readonly bands: number;
  readonly groups: number;
}

/**
 * The tiles that a scale tensor divides a weight [rows, columns] into: one in all, one per row, groups of a row, or blocks.
 * @param block height and width where the config names them.
 * @throws InputError when the number of scales fits none of them.
 */
export function tileOf(
  stored: StoredWeight,
  part: string,
  [rows, columns]: readonly [number, number],
  block?: readonly [number, number],
): ScaleTiles {
  const { shape } = stored.entry(part);
  const count = shape.reduce((product, n) => product * n, 1);
  const inBlocks = block && [Math.ceil(rows / block[0]), Math.ceil(columns / block[1])];
  if (block && inBlocks && shape.join() === inBlocks.join()) {
    return { rows: block[0], columns: block[1], bands: inBlocks[0]!, groups: inBlocks[1]! };
  }
  if (count === 1) return { rows, columns, bands: 1, groups: 1 };
  if (count === rows && (shape.length === 1 || shape.at(-1) === 1)) return { rows: 1, columns, bands: rows, groups: 1 };
  const [bands, groups] = shape;
  if (!block && shape.length === 2 && rows % bands! === 0 && columns % groups! === 0) {
    return { rows: rows / bands!, columns: columns / groups!, bands: bands!, groups: groups! };
  }
  const ways = [`1 scale`, `[${rows}, 1]`, inBlocks ? `[${inBlocks.join(", ")}]` : `blocks of [${rows}, ${columns}]`];
  throw stored.fault(part, ways.join(" or "), `[${shape.join(", ")}]`);
}

/** Powers of two from their exponents in a byte, 127 being 1 and 255 no number. OCP Microscaling Formats, E8M0. */
export function exponents(bytes: Float64Array): Float64Array {
  return bytes.map((byte) => (byte === 255 ? Number.NaN : 2 ** (byte - 127)));
}
