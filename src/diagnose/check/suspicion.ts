import type { ResidualSums } from "./product-sums.js";

/** Rows and columns of a unit that its sums point at: what is to be compared exactly. */
export interface Suspicion {
  readonly rows: Int32Array;
  readonly columns: Int32Array;
}

/** Median of |z| of a standard normal number. */
const normalMedian = 0.6745;
/** Places of one product that are followed, the farthest first. */
const followed = 24;
/** Columns that are compared of what stands out as a whole. */
const columnsOfWhole = 256;
const fewest = 16;
/** Standard errors from which a row or a block stands out as a whole: once in a thousand million times by chance. */
const wholeLimit = 6;

/**
 * Where sums stand out against all others of the product: single ones, rows as a whole, blocks of columns as a whole. Their
 * scatter is measured on themselves, by the median, so that no assumption about the order of summation enters; a wrong
 * suspicion costs a comparison and accuses nobody.
 */
export function suspicionOf(sums: ResidualSums, columnCount: number): Suspicion | undefined {
  const { rows, blocks, width, z } = sums;
  const scale = Math.max(1, medianOf(z) / normalMedian);
  const limit = scale * Math.sqrt(2 * Math.log(Math.max(2, z.length)));
  const places: { row: number; block: number; z: number }[] = [];
  const ofRow = new Float64Array(rows.length);
  const ofBlock = new Float64Array(blocks);
  for (let r = 0, i = 0; r < rows.length; r++) {
    for (let b = 0; b < blocks; b++, i++) {
      const own = z[i]!;
      if (own > limit) keepLargest(places, { row: r, block: b, z: own });
      // Single ones are followed anyway; capped, they do not make a whole stand out.
      const square = Math.min(own / scale, 4) ** 2;
      ofRow[r]! += square;
      ofBlock[b]! += square;
    }
  }
  const wantedRows = new Set(places.map(({ row }) => rows[row]!));
  const wantedBlocks = new Set(places.map(({ block }) => block));
  for (const r of outstanding(ofRow, blocks)) wantedRows.add(rows[r]!);
  for (const b of outstanding(ofBlock, rows.length)) wantedBlocks.add(b);
  if (wantedRows.size + wantedBlocks.size === 0) return undefined;
  const perBlock = Math.max(fewest, Math.floor(columnsOfWhole / Math.max(1, wantedBlocks.size)));
  const columns = [...wantedBlocks].flatMap((block) => columnsOf(block, width, columnCount, perBlock));
  return { rows: Int32Array.from(wantedRows).sort(), columns: Int32Array.from(new Set(columns)).sort() };
}

/** All columns of a narrow block, an even spread over a wide one. */
function columnsOf(block: number, width: number, columnCount: number, most: number): number[] {
  const first = block * width;
  const count = Math.min(width, columnCount - first);
  const step = Math.max(1, Math.floor(count / most));
  return Array.from({ length: Math.ceil(count / step) }, (_, i) => first + i * step);
}

function keepLargest<T extends { z: number }>(places: T[], place: T): void {
  if (places.length < followed) places.push(place);
  else {
    let least = 0;
    for (let i = 1; i < places.length; i++) if (places[i]!.z < places[least]!.z) least = i;
    if (places[least]!.z < place.z) places[least] = place;
  }
}

/** Indices whose sum of `terms` squares is too large against the others' median, the largest first. */
function outstanding(squares: Float64Array, terms: number): number[] {
  const usual = Math.max(terms, medianOf(squares));
  const limit = usual + wholeLimit * Math.sqrt(2 * terms) * (usual / terms);
  return Array.from(squares.keys())
    .filter((i) => squares[i]! > limit)
    .sort((a, b) => squares[b]! - squares[a]!)
    .slice(0, followed);
}

/** The median, of an even spread of many values. */
function medianOf(values: Float64Array): number {
  if (values.length === 0) return 0;
  const stride = Math.ceil(values.length / 2 ** 12);
  const sorted = Float64Array.from(
    { length: Math.floor((values.length - 1) / stride) + 1 },
    (_, i) => values[i * stride]!,
  );
  sorted.sort();
  return sorted[sorted.length >> 1]!;
}
