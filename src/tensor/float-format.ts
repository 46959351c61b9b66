/** A binary floating-point format, as far as rounding and range are concerned. */
export interface FloatFormat {
  /** Stored fraction bits; the significand has one more. */
  readonly fractionBits: number;
  /** Exponent of the smallest normal number. */
  readonly minExponent: number;
  readonly max: number;
  readonly hasInfinity: boolean;
}

/** Distance between neighbouring numbers of `format` at `value` (the subnormal spacing near zero). */
export function unitInLastPlace(value: number, format: FloatFormat): number {
  const magnitude = Math.abs(value);
  const exponent = Math.max(binaryExponent(magnitude), format.minExponent);
  return powersOfTwo[exponent - format.fractionBits + 1100]!;
}

/** The smallest number whose ulp kernels take from its exponent: smaller ones have the same, or one whose square is 0. */
export function leastWithUlp({ minExponent }: FloatFormat): number {
  return 2 ** Math.max(minExponent, -900);
}

const exponentScratch = new Float64Array(1);
const exponentWords = new Uint32Array(exponentScratch.buffer);
const highWord = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** floor(log2(|value|)) of a normal float64. */
function binaryExponent(magnitude: number): number {
  exponentScratch[0] = magnitude;
  return ((exponentWords[highWord]! >>> 20) & 0x7ff) - 1023;
}

/** 2^e for every exponent of a float64, subnormals included: a table is much faster than the power operator. */
const powersOfTwo = Float64Array.from({ length: 2150 }, (_, i) => 2 ** (i - 1100));

/** `value` rounded to `format`: nearest, ties to even, overflow to infinity or, where there is none, to NaN. */
export function nearestIn(value: number, format: FloatFormat): number {
  if (!Number.isFinite(value) || value === 0) return value;
  const spacing = unitInLastPlace(value, format);
  const rounded = roundHalfEven(value / spacing) * spacing;
  if (Math.abs(rounded) <= format.max) return rounded;
  return format.hasInfinity ? (value > 0 ? Infinity : -Infinity) : Number.NaN;
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction < 0.5) return floor;
  if (fraction > 0.5) return floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
