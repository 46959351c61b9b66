import { roundTo } from "../tensor/dtype.js";
import type { Quantisation } from "../tensor/quantisation.js";
import { roundAll } from "../tensor/rounding.js";

export type { Quantisation, ScaleTile } from "../tensor/quantisation.js";

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
export function scaleOf({ low, high }: Extremes, quantisation: Quantisation): Scale {
  const { format, scaling, scaleType, fixed, arithmetic } = quantisation;
  if (fixed !== undefined) return { scale: fixed, zero: 0 };
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
  const scale = kept(Math.fround(magnitude / format.largest), scaleType);
  return { scale: arithmetic ? roundTo(scale, arithmetic) : scale, zero: 0 };
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
  { format, scaling, arithmetic }: Quantisation,
  { scale, zero }: Scale,
): void {
  const count = end - first;
  if (scratch.values.length !== count) scratch.values = new Float64Array(count);
  const narrow = scratch.values;
  if (scaling === "none") for (let i = 0; i < count; i++) narrow[i] = values[first + i]!;
  else for (let i = 0; i < count; i++) narrow[i] = Math.fround(values[first + i]! / scale);
  if (arithmetic) roundAll(narrow, arithmetic);
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
  if (arithmetic) roundAll(values, arithmetic, first, end);
}
