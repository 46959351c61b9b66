import { type DType, type FloatFormat, floatFormat } from "./dtype.js";

const scratch = new Float64Array(2);
const words = new Uint32Array(scratch.buffer);
const high = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;

/**
 * Rounds elements `first` to `end - 1` of `values` to `dtype` in place: nearest, ties to even, overflow to infinity (for
 * e4m3fn to NaN). Integer types leave them as they are.
 */
export function roundAll(values: Float64Array, dtype: DType, first = 0, end = values.length): void {
  if (dtype === "float64") return;
  if (dtype === "float32") {
    for (let i = first; i < end; i++) values[i] = Math.fround(values[i]!);
    return;
  }
  const format = floatFormat(dtype);
  if (format) roundToFormat(values, format, first, end);
}

/** The same for any floating-point format of fewer digits than float64. */
export function roundToFormat(values: Float64Array, format: FloatFormat, first = 0, end = values.length): void {
  const { max, hasInfinity } = format;
  const smallest = format.minExponent + 1023;
  const shift = 52 - format.fractionBits;
  for (let i = first; i < end; i++) {
    const x = values[i]!;
    scratch[0] = x;
    let exponent = (words[high]! >>> 20) & 0x7ff;
    if (exponent === 0x7ff) continue;
    if (exponent < smallest) exponent = smallest;
    if (exponent + shift > 0x7fd) {
      values[i] = hasInfinity ? (x > 0 ? Infinity : -Infinity) : Number.NaN;
      continue;
    }
    // Adding 1.5 times a power of two whose own last place is the format's, and taking it away again, rounds there.
    words[high + 2] = ((exponent + shift) << 20) | 0x80000;
    words[3 - high] = 0;
    const magic = scratch[1]!;
    const rounded = x + magic - magic;
    if (rounded > max || rounded < -max) values[i] = hasInfinity ? (x > 0 ? Infinity : -Infinity) : Number.NaN;
    else values[i] = rounded;
  }
}
