import type { ParameterReader } from "../tensor/checkpoint.js";
import type { DType } from "../tensor/dtype.js";
import { roundAll } from "../tensor/rounding.js";
import { type Extremes, type Quantisation, quantiseRange, type Scale, scaleOf, widen } from "./quantisation.js";

/** Elements of quantised rows that are kept for the next request. */
const remembered = 2 ** 22;
/** Rows read at once while extremes are looked for. */
const rowsAtOnce = 64;

const readers = new WeakMap<ParameterReader, Map<string, ParameterReader>>();

/**
 * The same parameters with one of them as a runtime holds it that quantised it: rows come dequantised, in float32 or
 * rounded to `stored`. Scales are found on first use, those of whole tensors in one pass.
 */
export function quantisedParameters(
  parameters: ParameterReader,
  parameter: string,
  quantisation: Quantisation,
  stored?: DType,
): ParameterReader {
  const { format, tile, scaling, scaleType } = quantisation;
  const key = [parameter, format.id, tile.rows, tile.columns, scaling, scaleType, stored].join(" ");
  let known = readers.get(parameters);
  if (!known) {
    known = new Map();
    readers.set(parameters, known);
  }
  let reader = known.get(key);
  if (!reader) {
    const rows = new QuantisedRows(parameters, parameter, quantisation, stored);
    reader = {
      shape: (name) => parameters.shape(name),
      names: () => parameters.names(),
      asStored: parameters.asStored,
      dtype: (name) => parameters.dtype?.(name),
      rows: (name, first, count) =>
        name === parameter ? rows.read(first, count) : parameters.rows(name, first, count),
    };
    known.set(key, reader);
  }
  return reader;
}

class QuantisedRows {
  readonly #rowCount: number;
  readonly #columns: number;
  readonly #scales = new Map<number, Scale[]>();
  #rows = new Map<number, Float64Array>();

  constructor(
    readonly parameters: ParameterReader,
    readonly name: string,
    readonly quantisation: Quantisation,
    readonly stored: DType | undefined,
  ) {
    const shape = parameters.shape(name)!;
    this.#rowCount = shape.length > 1 ? shape[0]! : 1;
    this.#columns = shape.at(-1)!;
  }

  read(first: number, count: number): Float64Array {
    if (count === 1) return this.#row(first);
    const out = new Float64Array(count * this.#columns);
    for (let r = 0; r < count; r++) out.set(this.#row(first + r), r * this.#columns);
    return out;
  }

  #row(row: number): Float64Array {
    let values = this.#rows.get(row);
    if (values) return values;
    values = this.parameters.rows(this.name, row, 1).slice();
    const { tile } = this.quantisation;
    const scales = this.#scalesOf(row);
    for (let first = 0, t = 0; first < values.length; first += tile.columns, t++) {
      quantiseRange(values, first, Math.min(values.length, first + tile.columns), this.quantisation, scales[t]!);
    }
    if (this.stored) roundAll(values, this.stored);
    if (this.#rows.size * this.#columns > remembered) this.#rows = new Map();
    this.#rows.set(row, values);
    return values;
  }

  /** Scales of the tiles a row crosses. */
  #scalesOf(row: number): Scale[] {
    const { tile } = this.quantisation;
    const band = tile.rows === Infinity ? 0 : Math.floor(row / tile.rows);
    let scales = this.#scales.get(band);
    if (scales) return scales;
    const start = tile.rows === Infinity ? 0 : band * tile.rows;
    const end = Math.min(this.#rowCount, start + tile.rows);
    const width = Math.min(tile.columns, this.#columns);
    const extremes: Extremes[] = Array.from({ length: Math.ceil(this.#columns / width) }, () => ({
      low: Infinity,
      high: -Infinity,
    }));
    if (this.quantisation.scaling !== "none") {
      for (let from = start; from < end; from += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, end - from);
        const values = this.parameters.rows(this.name, from, count);
        for (let r = 0; r < count; r++) {
          const at = r * this.#columns;
          extremes.forEach((found, t) => {
            widen(found, values, at + t * width, at + Math.min(this.#columns, (t + 1) * width));
          });
        }
      }
    }
    scales = extremes.map((found) => scaleOf(found, this.quantisation));
    this.#scales.set(band, scales);
    return scales;
  }
}
