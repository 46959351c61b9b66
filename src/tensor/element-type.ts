import { type FloatFormat, nearestIn } from "./float-format.js";

export const dtypes = [
  "float64",
  "float32",
  "float16",
  "bfloat16",
  "float8_e4m3fn",
  "float8_e5m2",
  "int64",
  "int32",
  "int16",
  "int8",
  "uint8",
  "bool",
] as const;

export type DType = (typeof dtypes)[number];

const floatFormats: Partial<Record<DType, FloatFormat>> = {
  float64: { fractionBits: 52, minExponent: -1022, max: Number.MAX_VALUE, hasInfinity: true },
  float32: { fractionBits: 23, minExponent: -126, max: 3.4028234663852886e38, hasInfinity: true },
  float16: { fractionBits: 10, minExponent: -14, max: 65504, hasInfinity: true },
  bfloat16: { fractionBits: 7, minExponent: -126, max: 3.3895313892515355e38, hasInfinity: true },
  float8_e4m3fn: { fractionBits: 3, minExponent: -6, max: 448, hasInfinity: false },
  float8_e5m2: { fractionBits: 2, minExponent: -14, max: 57344, hasInfinity: true },
};

/** TF32: float32 with the 10 fraction bits that tensor cores keep of their operands. No tensor is stored in it. */
export const tf32Format: FloatFormat = { ...floatFormats.float32!, fractionBits: 10 };

const widths: Record<DType, number> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  float8_e4m3fn: 1,
  float8_e5m2: 1,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
  bool: 1,
};

/** Bytes of one element. */
export function byteWidth(dtype: DType): number {
  return widths[dtype];
}

/** The floating-point format of `dtype`, or undefined for integers and booleans. */
export function floatFormat(dtype: DType): FloatFormat | undefined {
  return floatFormats[dtype];
}

export function isDType(name: string): name is DType {
  return (dtypes as readonly string[]).includes(name);
}

/** `value` rounded to `dtype` (nearest, ties to even, overflow to infinity or, for e4m3fn, to NaN); integers are truncated by their typed array. */
export function roundTo(value: number, dtype: DType): number {
  if (dtype === "float64") return value;
  if (dtype === "float32") return Math.fround(value);
  const format = floatFormats[dtype];
  return format ? nearestIn(value, format) : value;
}
