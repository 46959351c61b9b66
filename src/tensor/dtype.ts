import { byteWidth, type DType, floatFormat } from "./element-type.js";
import { type FloatFormat, nearestIn } from "./float-format.js";
import { roundToFormat } from "./rounding.js";

export { Decoder, decode, decodeInto, elementReader } from "./decoder.js";
export { byteWidth, type DType, dtypes, floatFormat, isDType, roundTo, tf32Format } from "./element-type.js";
export { type FloatFormat, unitInLastPlace } from "./float-format.js";

/**
 * Element types: how bytes become numbers and numbers become bytes.
 *
 * 64-bit integers are decoded to float64, exact up to 2^53; every other type is exact. Encoding rounds to nearest,
 * ties to even. fp8 follows the OCP 8-bit formats (e4m3fn has no infinity, its largest value is 448).
 */

const chunk = new Float64Array(4096);

/** Encodes `values` as little-endian `dtype`, rounding to nearest, ties to even. */
export function encode(values: ArrayLike<number>, dtype: DType): Uint8Array {
  const width = byteWidth(dtype);
  const out = new Uint8Array(values.length * width);
  const view = new DataView(out.buffer);
  const format = width <= 2 ? floatFormat(dtype) : undefined;
  if (!format) {
    for (let i = 0; i < values.length; i++) writeElement(view, i * width, values[i]!, dtype);
    return out;
  }
  for (let first = 0; first < values.length; first += chunk.length) {
    const count = Math.min(chunk.length, values.length - first);
    for (let i = 0; i < count; i++) chunk[i] = values[first + i]!;
    roundToFormat(chunk, format, 0, count);
    for (let i = 0; i < count; i++) {
      const bits = bitsOf(values[first + i]!, chunk[i]!, width * 8, format);
      if (width === 2) view.setUint16((first + i) * 2, bits, true);
      else out[first + i] = bits;
    }
  }
  return out;
}

function writeElement(view: DataView, at: number, value: number, dtype: DType): void {
  switch (dtype) {
    case "float64":
      return view.setFloat64(at, value, true);
    case "float32":
      return view.setFloat32(at, value, true);
    case "int64":
      return view.setBigInt64(at, BigInt(Math.trunc(value)), true);
    case "int32":
      return view.setInt32(at, value, true);
    case "int16":
      return view.setInt16(at, value, true);
    case "bool":
      return view.setUint8(at, value === 0 ? 0 : 1);
    default:
      return view.setUint8(at, value);
  }
}

/** The bit pattern of `value` in a 16- or 8-bit float format. */
export function smallFloatBits(value: number, dtype: DType): number {
  const format = floatFormat(dtype)!;
  return bitsOf(value, nearestIn(value, format), byteWidth(dtype) * 8, format);
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The pattern of `rounded`, a number of `format`, with the sign of `value`, which it was rounded from. */
function bitsOf(
  value: number,
  rounded: number,
  width: number,
  { fractionBits, minExponent, hasInfinity }: FloatFormat,
) {
  const sign = value < 0 || Object.is(value, -0) ? 1 << (width - 1) : 0;
  const magnitude = Math.abs(rounded);
  const top = ((1 << (width - 1 - fractionBits)) - 1) << fractionBits;
  if (!(magnitude < Infinity)) {
    return sign | top | (hasInfinity && magnitude === Infinity ? 0 : (1 << fractionBits) - 1);
  }
  float[0] = magnitude;
  const pattern = (word[0]! >>> (23 - fractionBits)) - ((126 + minExponent) << fractionBits);
  if (pattern >= 1 << fractionBits) return sign | pattern;
  // A subnormal counts units of the smallest one.
  return sign | (magnitude * 2 ** (fractionBits - minExponent));
}
