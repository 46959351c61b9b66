import { type DType, floatFormat, roundTo, unitInLastPlace } from "./dtype.js";

/** A type whose numbers are multiplied by `scale` when they are read: a value is kept as round(value / scale). */
export interface ScaledType {
  readonly dtype: DType;
  readonly scale: number;
}

/** Types too narrow to hold values without a scale: fp8 and int8. */
export function isQuantised(dtype: DType): boolean {
  return dtype === "float8_e4m3fn" || dtype === "float8_e5m2" || dtype === "int8";
}

/** Largest and smallest number of a type. */
function rangeOf(dtype: DType): readonly [number, number] {
  const format = floatFormat(dtype);
  if (format) return [-format.max, format.max];
  return dtype === "int8" ? [-128, 127] : [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
}

/** The number kept for `value`: nearest, ties to even, and the type's last number beyond its range. */
export function quantise(value: number, { dtype, scale }: ScaledType): number {
  const [smallest, largest] = rangeOf(dtype);
  const x = value / scale;
  if (x >= largest) return largest;
  if (x <= smallest) return smallest;
  return floatFormat(dtype) ? roundTo(x, dtype) : nearestWhole(x);
}

function nearestWhole(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  return fraction > 0.5 || (fraction === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/**
 * How far the value that was stored may have been from its record in `recorded`: an ulp, where a kernel stores from its
 * registers what another store had to round first. 0 where the kept type is fine enough to hold the record itself.
 */
export function recordSpread(value: number, recorded: DType | undefined, kept: ScaledType): number {
  const format = recorded && floatFormat(recorded);
  if (!format || !Number.isFinite(value)) return 0;
  const own = floatFormat(kept.dtype);
  if (kept.scale === 1 && own && own.fractionBits >= format.fractionBits) return 0;
  return unitInLastPlace(value, format);
}

/** Whether a correct store of a number within `spread` of `value` may leave `stored`; overflow may saturate or not. */
export function mayStore(stored: number, value: number, type: ScaledType, spread = 0): boolean {
  const format = floatFormat(type.dtype);
  // What an integer type makes of NaN is nobody's promise.
  if (Number.isNaN(value)) return Number.isNaN(stored) || !format;
  const low = quantise(value - spread, type);
  const high = quantise(value + spread, type);
  if (stored >= low && stored <= high) return true;
  if (!format || (high < format.max && low > -format.max)) return false;
  return format.hasInfinity ? stored === (value > 0 ? Infinity : -Infinity) : Number.isNaN(stored);
}

/** Magnitudes that round to that of `stored`, inclusive; the last number of a type takes all beyond it as well. */
export function magnitudesOf(stored: number, dtype: DType): readonly [number, number] {
  const format = floatFormat(dtype);
  const magnitude = Math.abs(stored);
  const [smallest, largest] = rangeOf(dtype);
  const last = stored >= largest || stored <= smallest;
  if (!format) return [Math.max(0, magnitude - 0.5), last ? Infinity : magnitude + 0.5];
  const ulp = unitInLastPlace(magnitude, format);
  const below = magnitude > 0 ? unitInLastPlace(magnitude - ulp / 4, format) : 0;
  return [magnitude - below / 2, last ? Infinity : magnitude + ulp / 2];
}
