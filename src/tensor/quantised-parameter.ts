import type { DType } from "./dtype.js";
import type { Quantisation } from "./quantisation.js";

/**
 * Where the product of a narrow number and its scale is rounded: as the format's reference implementation dequantises, not
 * at all (a kernel that scales its sums), or the scale and the product each to a type (a kernel that dequantises in the type
 * it multiplies in).
 */
export type WeightRounding = "reference" | "exact" | DType;

/** A way in which code that was written for the format, or for its neighbour, takes the same bytes for other numbers. */
export interface Misreading {
  /** Id in the catalogue of causes. */
  readonly cause: string;
  /** Transform class T1 to T20. */
  readonly transform: string;
  /** One sentence about the tensors concerned. */
  readonly statement: string;
  readonly parameters: Readonly<Record<string, number | string>>;
}

/** A parameter that a checkpoint keeps in narrow numbers and scales. */
export interface QuantisedParameter {
  readonly shape: readonly number[];
  /** Type that the format's reference implementation dequantises to. */
  readonly dtype: DType;
  /**
   * Rows `first` to `first + count - 1` of the numbers that are meant, as float64.
   * @param rounding "reference" unless given.
   * @throws InputError when the stored tensors contradict each other.
   */
  rows(first: number, count: number, rounding?: WeightRounding): Float64Array;
  /** Ways in which a product with this weight may quantise its other operand on the fly, as the config says. */
  readonly operands: readonly Quantisation[];
  readonly misreadings: readonly Misreading[];
  /** The same bytes, misread. */
  misread(misreading: Misreading): QuantisedParameter;
  /** Rows and columns that share a scale; absent where the parameter is no matrix. */
  readonly tile?: { readonly rows: number; readonly columns: number } | undefined;
  /** The one scale of an e4m3 weight that has no other; absent where there are several, or other numbers. */
  tensorScale?(): number | undefined;
  /** The same numbers under scales (and zero points, if asked for) of other places. */
  rescaled?(from: ScaleSource): QuantisedParameter;
}

/** Row and column whose scale an element takes; its own where absent. */
export interface ScaleSource {
  row?(row: number): number;
  column?(column: number): number;
  /** Whether zero points come from there too. */
  readonly zeros: boolean;
}

/** The rows of a quantised parameter from `firstRow` on as a parameter of their own, of that shape. */
export function partOfQuantised(
  whole: QuantisedParameter,
  firstRow: number,
  shape: readonly number[],
): QuantisedParameter {
  const { dtype, operands, misreadings, tile } = whole;
  return {
    shape,
    dtype,
    operands,
    misreadings,
    tile,
    tensorScale: () => whole.tensorScale?.(),
    misread: (misreading) => partOfQuantised(whole.misread(misreading), firstRow, shape),
    ...(whole.rescaled && {
      rescaled({ row, ...from }: ScaleSource) {
        const moved = row && { row: (r: number) => firstRow + row(r - firstRow) };
        return partOfQuantised(whole.rescaled!({ ...from, ...moved }), firstRow, shape);
      },
    }),
    rows: (first, count, rounding) => whole.rows(firstRow + first, count, rounding),
  };
}

/** Some rows of a quantised matrix, in that order, as a parameter of their own. */
export function rowsOfQuantised(whole: QuantisedParameter, rows: Int32Array): QuantisedParameter {
  const { dtype, operands, misreadings } = whole;
  const width = whole.shape[1]!;
  return {
    shape: [rows.length, width],
    dtype,
    operands,
    misreadings,
    tensorScale: () => whole.tensorScale?.(),
    misread: (misreading) => rowsOfQuantised(whole.misread(misreading), rows),
    rows(first, count, rounding) {
      const out = new Float64Array(count * width);
      for (let r = 0; r < count; r++) out.set(whole.rows(rows[first + r]!, 1, rounding), r * width);
      return out;
    },
  };
}

/** Columns `first` to `first + count - 1` of a quantised matrix as a parameter of their own: a rank's part of it. */
export function columnsOfQuantised(whole: QuantisedParameter, first: number, count: number): QuantisedParameter {
  const { dtype, operands, misreadings } = whole;
  const [height, width] = whole.shape as [number, number];
  return {
    shape: [height, count],
    dtype,
    operands,
    misreadings,
    tensorScale: () => whole.tensorScale?.(),
    misread: (misreading) => columnsOfQuantised(whole.misread(misreading), first, count),
    rows: (row, rows, rounding) => columnsOfRows(whole.rows(row, rows, rounding), width, first, count),
  };
}

/** The same of numbers [rows, width], as a copy. */
export function columnsOfRows(values: Float64Array, width: number, first: number, count: number): Float64Array {
  const rows = values.length / width;
  const out = new Float64Array(rows * count);
  for (let r = 0; r < rows; r++) out.set(values.subarray(r * width + first, r * width + first + count), r * count);
  return out;
}
