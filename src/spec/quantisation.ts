import { type DType, roundTo } from "../tensor/dtype.js";
import type { Quantisation, ScaleType } from "../tensor/quantisation.js";
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
  const { format, scaling, scaleType, fixed, arithmetic, aroundZero } = quantisation;
  if (fixed !== undefined) return { scale: fixed, zero: 0 };
  if (scaling === "none") return { scale: 1, zero: 0 };
  if (scaling === "range") {
    const top = format.levels! - 1;
    const [least, most] = aroundZero ? [Math.min(0, low), Math.max(0, high)] : [low, high];
    const scale = kept(Math.fround(Math.max(1e-12, Math.fround(most - least)) / top), scaleType);
    return { scale, zero: nearestWhole(Math.fround(-least / scale)) };
  }
  if (scaling === "signed") {
    const extreme = -low > high ? low : high;
    return { scale: kept(Math.fround(extreme / -(format.largest + 1)), scaleType) || 1e-12, zero: 0 };
  }
  return { scale: scaleFor(Math.max(1e-12, high, -low), quantisation, arithmetic), zero: 0 };
}

/** The scale of a tile by its largest magnitude. */
function scaleFor(magnitude: number, { format, scaleType, global }: Quantisation, arithmetic?: DType): number {
  const exponent = Math.floor(Math.log2(magnitude));
  const own = Math.floor(Math.log2(format.largest));
  if (scaleType === "power-of-two") return 2 ** (exponent - own);
  if (scaleType === "power-of-two-nearest") return 2 ** (exponent - own + (magnitude >= 1.75 * 2 ** exponent ? 1 : 0));
  const quotient = Math.fround(magnitude / format.largest);
  if (scaleType === "power-of-two-above") return 2 ** Math.ceil(Math.log2(quotient));
  const scale = arithmetic ? roundTo(kept(quotient, scaleType), arithmetic) : kept(quotient, scaleType);
  if (scaleType !== "e4m3") return scale;
  const factor = global ?? 1;
  // Zero would leave nothing to divide by; compressed-tensors' smallest scale makes zeros of such a tile as well.
  const narrow = roundTo(Math.min(largestE4m3, Math.fround(scale * factor)), "float8_e4m3fn") || 0.125;
  return Math.fround(narrow / factor);
}

const largestE4m3 = 448;

/**
 * Other scales that the same tile may have got: where the type of scales is coarse, an error this large of its largest
 * magnitude, relative, may carry it to the next one.
 */
export function otherScales(extremes: Extremes, quantisation: Quantisation, error: number): readonly Scale[] {
  if (quantisation.scaling !== "magnitude" || quantisation.fixed !== undefined) return [];
  if (!coarse.has(quantisation.scaleType)) return [];
  const { scale } = scaleOf(extremes, quantisation);
  const moved = [1 - error, 1 + error].map((factor) =>
    scaleOf({ low: extremes.low * factor, high: extremes.high * factor }, quantisation),
  );
  return moved.filter((other) => other.scale !== scale);
}

const coarse: ReadonlySet<ScaleType> = new Set(["e4m3", "power-of-two-above", "power-of-two-nearest", "power-of-two"]);

function kept(scale: number, type: ScaleType): number {
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
  { format, scaling, arithmetic, global, unscaled }: Quantisation,
  { scale, zero }: Scale,
): void {
  const count = end - first;
  if (scratch.values.length !== count) scratch.values = new Float64Array(count);
  const narrow = scratch.values;
  if (scaling === "none") for (let i = 0; i < count; i++) narrow[i] = values[first + i]!;
  else for (let i = 0; i < count; i++) narrow[i] = Math.fround(values[first + i]! / scale);
  // A global scale in float32 makes float32 of all that it meets.
  if (arithmetic && global === undefined) roundAll(narrow, arithmetic);
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
  for (let i = 0; i < count; i++) values[first + i] = unscaled ? narrow[i]! : Math.fround(narrow[i]! * scale);
  if (arithmetic) roundAll(values, arithmetic, first, end);
}
