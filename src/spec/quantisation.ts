import { roundTo } from "../tensor/dtype.js";
import type { NarrowFormat } from "../tensor/narrow-format.js";

/** A rectangle of a matrix [rows, columns] whose elements share one scale; Infinity: all of them. */
export interface ScaleTile {
  readonly rows: number;
  readonly columns: number;
}

/** How values became narrow numbers: round(x / scale) · scale, one scale per tile. */
export interface Quantisation {
  readonly format: NarrowFormat;
  readonly tile: ScaleTile;
  /**
   * What the scale follows from: the largest magnitude of the tile, its smallest and largest value (with a zero point), the
   * value of largest magnitude with its sign (llama.cpp's Q4_0), or nothing: a plain cast.
   */
  readonly scaling: "magnitude" | "range" | "signed" | "none";
  /** The type the scale itself is kept in; "power-of-two" for microscaling formats. */
  readonly scaleType: "float32" | "float16" | "bfloat16" | "power-of-two";
}

/** Smallest and largest value of a tile. */
export interface Extremes {
  low: number;
  high: number;
}

export interface Scale {
  readonly scale: number;
  readonly zero: number;
}

/** Extremes of elements `first` to `end - 1`, joined with what is known already. */
export function widen(extremes: Extremes, values: Float64Array, first: number, end: number): void {
  let { low, high } = extremes;
  for (let i = first; i < end; i++) {
    const x = values[i]!;
    if (x < low) low = x;
    if (x > high) high = x;
  }
  extremes.low = low;
  extremes.high = high;
}

/** The scale, and the zero point, of a tile with these extremes, in float32 as implementations compute it. */
export function scaleOf({ low, high }: Extremes, { format, scaling, scaleType }: Quantisation): Scale {
  if (scaling === "none") return { scale: 1, zero: 0 };
  const magnitude = Math.max(1e-12, high, -low);
  if (scaling === "range") {
    const top = format.levels! - 1;
    const scale = kept(Math.fround(Math.max(1e-12, Math.fround(high - low)) / top), scaleType);
    return { scale, zero: nearestWhole(Math.fround(-low / scale)) };
  }
  if (scaling === "signed") {
    const extreme = -low > high ? low : high;
    return { scale: kept(Math.fround(extreme / -(format.largest + 1)), scaleType) || 1e-12, zero: 0 };
  }
  if (scaleType === "power-of-two") {
    // The largest element keeps the type's largest exponent; what lies above its largest number saturates.
    return { scale: 2 ** (Math.floor(Math.log2(magnitude)) - Math.floor(Math.log2(format.largest))), zero: 0 };
  }
  return { scale: kept(Math.fround(magnitude / format.largest), scaleType), zero: 0 };
}

function kept(scale: number, type: Quantisation["scaleType"]): number {
  return type === "float16" || type === "bfloat16" ? roundTo(scale, type) : scale;
}

function nearestWhole(x: number): number {
  const magic = 1.5 * 2 ** 52;
  return x + magic - magic;
}

const scratch = { values: new Float64Array(0) };

/** Replaces elements `first` to `end - 1` by what their narrow numbers stand for. */
export function quantiseRange(
  values: Float64Array,
  first: number,
  end: number,
  { format, scaling }: Quantisation,
  { scale, zero }: Scale,
): void {
  const count = end - first;
  if (scratch.values.length !== count) scratch.values = new Float64Array(count);
  const narrow = scratch.values;
  if (scaling === "none") for (let i = 0; i < count; i++) narrow[i] = values[first + i]!;
  else for (let i = 0; i < count; i++) narrow[i] = Math.fround(values[first + i]! / scale);
  if (scaling === "range") {
    const top = format.levels! - 1;
    for (let i = 0; i < count; i++) {
      const level = Math.min(top, Math.max(0, nearestWhole(Math.fround(narrow[i]! + zero))));
      values[first + i] = Math.fround((level - zero) * scale);
    }
    return;
  }
  if (scaling === "signed") {
    const lowest = -format.largest - 1;
    // The extreme itself maps to the lowest level; halves round up.
    for (let i = 0; i < count; i++)
      narrow[i] = Math.min(format.largest, Math.max(lowest, Math.floor(narrow[i]! + 0.5)));
  } else format.round(narrow);
  for (let i = 0; i < count; i++) values[first + i] = Math.fround(narrow[i]! * scale);
}
