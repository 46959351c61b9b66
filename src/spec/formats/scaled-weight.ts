import type { DType } from "../../tensor/dtype.js";
import type { Quantisation } from "../../tensor/quantisation.js";
import type { Misreading, QuantisedParameter, ScaleSource, WeightRounding } from "../../tensor/quantised-parameter.js";
import { Recent } from "../../tensor/recent.js";
import { roundAll } from "../../tensor/rounding.js";
import { type CodeRows, unpackRow } from "./code-rows.js";

/** Scales or zero points [bands of rows, groups of columns]: where the one of band b and group g lies in `values`. */
export interface ScaleTable {
  readonly values: Float64Array;
  readonly bandStride: number;
  readonly groupStride: number;
  /** How far besides; what would lie outside is read without it. */
  readonly shift?: number;
}

/** What is held while a weight is read. */
export interface WeightTables {
  readonly codes: CodeRows;
  readonly scales: ScaleTable;
  readonly zeros?: ScaleTable | undefined;
  /** Divides or multiplies every scale. */
  readonly global?: { readonly value: number; readonly divides: boolean } | undefined;
  /** Group of each column, where they are not side by side. */
  readonly groupOf?: Int32Array | undefined;
}

/**
 * w[o, i] = (number(code[o, i]) − zero[band, group]) · scale[band, group], bands being rows and groups columns that share a
 * scale. What a format's file gives.
 */
export interface ScaledLayout {
  /** Outputs and inputs. */
  readonly shape: readonly [number, number];
  /** Bits of a code, and the number each code stands for. */
  readonly bits: number;
  readonly numbers: Float64Array;
  readonly bandRows: number;
  readonly groupColumns: number;
  /** Type the reference multiplies in, and the type its results are kept in. */
  readonly arithmetic: DType;
  readonly dtype: DType;
  /** Narrow numbers that the other operand of a product may be taken in. */
  readonly operands: readonly Quantisation[];
  readonly misreadings: readonly LayoutMisreading[];
  /** Whether the numbers are e4m3 with one scale for all of them: runtimes that merge projections give them one of their own. */
  readonly hasTensorScale?: boolean;
  /** Reads scales and zero points, and makes the codes accessible. @throws InputError where they do not fit. */
  load(): WeightTables;
}

/** What a misreading changes. */
export interface Reading {
  readonly numbers?: (numbers: Float64Array) => Float64Array;
  readonly tables?: (tables: WeightTables) => WeightTables;
  readonly scale?: (scale: number) => number;
  readonly zero?: (zero: number) => number;
  readonly codeRow?: (row: number) => number;
  readonly codeColumn?: (column: number) => number;
  /** Places whose scales, and zero points where asked for, are taken. */
  readonly from?: ScaleSource;
}

export interface LayoutMisreading extends Misreading {
  readonly reading: Reading;
}

/** What is kept for the next request: tables of the weights read last, and rows of numbers. */
export class WeightMemory {
  readonly tables = new Recent<WeightTables>(2 ** 26);
  readonly rows = new Recent<Float64Array>(2 ** 25);
  readonly #numbers = new WeakMap<Reading, number>();
  #count = 0;

  /** A number that no other reading has. */
  numberOf(reading: Reading): number {
    const known = this.#numbers.get(reading);
    if (known !== undefined) return known;
    this.#numbers.set(reading, this.#count);
    return this.#count++;
  }
}

/** Elements up to which a parameter is read whole, and from which a request is not worth keeping. */
const wholeElements = 2 ** 20;

/** A weight of narrow numbers and scales, read by rows. */
export class ScaledWeight implements QuantisedParameter {
  readonly #key: string;
  readonly #reading: Reading;

  constructor(
    readonly name: string,
    readonly layout: ScaledLayout,
    readonly memory: WeightMemory,
    reading?: Reading,
  ) {
    this.#key = reading ? `${name} ~${memory.numberOf(reading)}` : name;
    this.#reading = reading ?? {};
  }

  get shape(): readonly [number, number] {
    return this.layout.shape;
  }

  get dtype(): DType {
    return this.layout.dtype;
  }

  get operands(): readonly Quantisation[] {
    return this.layout.operands;
  }

  get misreadings(): readonly LayoutMisreading[] {
    return this.layout.misreadings;
  }

  misread(misreading: Misreading): ScaledWeight {
    return new ScaledWeight(this.name, this.layout, this.memory, (misreading as LayoutMisreading).reading);
  }

  get tile(): { rows: number; columns: number } {
    return { rows: this.layout.bandRows, columns: this.layout.groupColumns };
  }

  tensorScale(): number | undefined {
    return this.layout.hasTensorScale ? this.#tables().scales.values[0] : undefined;
  }

  rescaled(from: ScaleSource): ScaledWeight {
    return new ScaledWeight(this.name, this.layout, this.memory, { from });
  }

  rows(first: number, count: number, rounding: WeightRounding = "reference"): Float64Array {
    const [rows, columns] = this.shape;
    if (first < 0 || count < 0 || first + count > rows)
      throw new RangeError(`rows ${first} to ${first + count - 1} of ${rows}`);
    if (rows * columns <= wholeElements) {
      const all = this.#kept(0, rows, rounding);
      return count === rows ? all : all.subarray(first * columns, (first + count) * columns);
    }
    return count * columns > wholeElements ? this.#decode(first, count, rounding) : this.#kept(first, count, rounding);
  }

  #kept(first: number, count: number, rounding: WeightRounding): Float64Array {
    return this.memory.rows.of(
      `${this.#key} ${first} ${count} ${rounding}`,
      () => this.#decode(first, count, rounding),
      ({ byteLength }) => byteLength,
    );
  }

  #tables(): WeightTables {
    const loaded = this.memory.tables.of(
      this.name,
      () => this.layout.load(),
      ({ codes, scales, zeros }) => codes.heldBytes + scales.values.byteLength + (zeros?.values.byteLength ?? 0),
    );
    return this.#reading.tables?.(loaded) ?? loaded;
  }

  #decode(first: number, count: number, rounding: WeightRounding): Float64Array {
    const { shape, bits, bandRows, groupColumns, arithmetic, dtype } = this.layout;
    const [, columns] = shape;
    const { codeRow, codeColumn } = this.#reading;
    const numbers = this.#reading.numbers?.(this.layout.numbers) ?? this.layout.numbers;
    const loaded = this.#tables();
    const groups = Math.ceil(columns / groupColumns);
    const place = codeColumn && Int32Array.from({ length: columns }, (_, i) => codeColumn(i));
    const out = new Float64Array(count * columns);
    const codes = new Uint8Array(columns);
    const ordered = place ? new Uint8Array(columns) : codes;
    const scales = new Float64Array(groups);
    const zeros = new Float64Array(groups);
    const bytes = codeRow ? undefined : loaded.codes.read(first, count);
    let band = -1;
    for (let r = 0; r < count; r++) {
      const row = first + r;
      if (Math.floor(row / bandRows) !== band) {
        band = Math.floor(row / bandRows);
        this.#scalesOf(loaded, band, rounding, scales, zeros);
      }
      if (bytes) unpackRow(bytes, r * loaded.codes.rowBytes, bits, codes);
      else unpackRow(loaded.codes.read(codeRow!(row), 1), 0, bits, codes);
      if (place) for (let i = 0; i < columns; i++) ordered[i] = codes[place[i]!]!;
      const target = out.subarray(r * columns, (r + 1) * columns);
      if (this.#reading.from) this.#scaleFromElsewhere(target, row, ordered, numbers, loaded, zeros, rounding);
      else if (loaded.groupOf) scaleByOrder(target, ordered, numbers, loaded.groupOf, zeros, scales);
      else scaleByRuns(target, ordered, numbers, groupColumns, zeros, scales);
    }
    if (rounding === "exact") return out;
    if (rounding !== "reference") {
      roundAll(out, rounding);
      return out;
    }
    roundAll(out, arithmetic);
    if (dtype !== arithmetic) roundAll(out, dtype);
    return out;
  }

  /** A row whose elements take the scales of other places; `zeros` are its own zero points. */
  #scaleFromElsewhere(
    target: Float64Array,
    row: number,
    codes: Uint8Array,
    numbers: Float64Array,
    loaded: WeightTables,
    zeros: Float64Array,
    rounding: WeightRounding,
  ): void {
    const { bandRows, groupColumns } = this.layout;
    const { row: rowOf, column: columnOf, zeros: movesZeros } = this.#reading.from!;
    const scales = new Float64Array(zeros.length);
    const otherZeros = new Float64Array(zeros.length);
    this.#scalesOf(loaded, Math.floor((rowOf?.(row) ?? row) / bandRows), rounding, scales, otherZeros);
    const groupAt = (i: number) => loaded.groupOf?.[i] ?? Math.floor(i / groupColumns);
    for (let i = 0; i < target.length; i++) {
      const from = groupAt(columnOf?.(i) ?? i);
      const zero = movesZeros ? otherZeros[from]! : zeros[groupAt(i)]!;
      target[i] = (numbers[codes[i]!]! - zero) * scales[from]!;
    }
  }

  /** Scales and zero points of a band, as they are multiplied with and taken away. */
  #scalesOf(
    { scales: table, zeros: zeroTable, global }: WeightTables,
    band: number,
    rounding: WeightRounding,
    scales: Float64Array,
    zeros: Float64Array,
  ): void {
    const { scale = (s: number) => s, zero = (z: number) => z } = this.#reading;
    const isExact = rounding === "exact";
    for (let g = 0; g < scales.length; g++) {
      let s = scale(valueAt(table, band, g));
      if (global) {
        s = global.divides ? s / global.value : s * global.value;
        if (!isExact) s = Math.fround(s);
      }
      scales[g] = s;
      zeros[g] = zeroTable ? zero(valueAt(zeroTable, band, g)) : 0;
    }
    if (!isExact && rounding !== "reference") roundAll(scales, rounding);
  }
}

/** A row whose groups lie side by side. */
function scaleByRuns(
  target: Float64Array,
  codes: Uint8Array,
  numbers: Float64Array,
  groupColumns: number,
  zeros: Float64Array,
  scales: Float64Array,
): void {
  for (let group = 0, first = 0; first < codes.length; group++, first += groupColumns) {
    const end = Math.min(codes.length, first + groupColumns);
    const zero = zeros[group]!;
    const scale = scales[group]!;
    for (let i = first; i < end; i++) target[i] = (numbers[codes[i]!]! - zero) * scale;
  }
}

/** A row whose inputs belong to groups in an order of their own. */
function scaleByOrder(
  target: Float64Array,
  codes: Uint8Array,
  numbers: Float64Array,
  groupOf: Int32Array,
  zeros: Float64Array,
  scales: Float64Array,
): void {
  for (let i = 0; i < codes.length; i++) {
    const group = groupOf[i]!;
    target[i] = (numbers[codes[i]!]! - zeros[group]!) * scales[group]!;
  }
}

function valueAt({ values, bandStride, groupStride, shift = 0 }: ScaleTable, band: number, group: number): number {
  const at = band * bandStride + group * groupStride;
  const besides = at + shift;
  return values[besides >= 0 && besides < values.length ? besides : at]!;
}
