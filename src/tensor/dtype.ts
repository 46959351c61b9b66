/**
 * Element types: how bytes become numbers and numbers become bytes.
 *
 * 64-bit integers are decoded to float64, exact up to 2^53; every other type is exact. Encoding rounds to nearest,
 * ties to even. fp8 follows the OCP 8-bit formats (e4m3fn has no infinity, its largest value is 448).
 */

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

/** A binary floating-point format, as far as rounding and range are concerned. */
export interface FloatFormat {
  /** Stored fraction bits; the significand has one more. */
  readonly fractionBits: number;
  /** Exponent of the smallest normal number. */
  readonly minExponent: number;
  readonly max: number;
  readonly hasInfinity: boolean;
}

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

/** Distance between neighbouring numbers of `format` at `value` (the subnormal spacing near zero). */
export function unitInLastPlace(value: number, format: FloatFormat): number {
  const magnitude = Math.abs(value);
  const exponent = Math.max(binaryExponent(magnitude), format.minExponent);
  return powersOfTwo[exponent - format.fractionBits + 1100]!;
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

/** `value` rounded to `dtype` (nearest, ties to even, overflow to infinity or, for e4m3fn, to NaN); integers are truncated by their typed array. */
export function roundTo(value: number, dtype: DType): number {
  if (dtype === "float64") return value;
  if (dtype === "float32") return Math.fround(value);
  const format = floatFormats[dtype];
  if (!format || !Number.isFinite(value) || value === 0) return value;
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

function decodeSmallFloat(bits: number, width: number, format: FloatFormat): number {
  const exponentBits = width - 1 - format.fractionBits;
  const sign = bits >> (width - 1) ? -1 : 1;
  const exponent = (bits >> format.fractionBits) & ((1 << exponentBits) - 1);
  const fraction = bits & ((1 << format.fractionBits) - 1);
  const top = (1 << exponentBits) - 1;
  if (exponent === top && format.hasInfinity) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === top && fraction === (1 << format.fractionBits) - 1) return Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (format.minExponent - format.fractionBits);
  return sign * (1 + fraction * 2 ** -format.fractionBits) * 2 ** (exponent - 1 + format.minExponent);
}

const decodeTables = new Map<DType, Float64Array>();

function decodeTable(dtype: DType): Float64Array {
  let table = decodeTables.get(dtype);
  if (!table) {
    const width = widths[dtype] * 8;
    const format = floatFormats[dtype]!;
    table = Float64Array.from({ length: 1 << width }, (_, bits) => decodeSmallFloat(bits, width, format));
    decodeTables.set(dtype, table);
  }
  return table;
}

/**
 * Decodes `count` elements of little-endian `bytes`, starting `byteOffset` bytes in.
 * @throws RangeError when the bytes end before the last element.
 */
export function decode(bytes: Uint8Array, dtype: DType, byteOffset = 0, count?: number): Float64Array {
  const width = widths[dtype];
  const length = count ?? Math.floor((bytes.byteLength - byteOffset) / width);
  if (byteOffset + length * width > bytes.byteLength) throw new RangeError("bytes end before the last element");
  const view = new DataView(bytes.buffer, bytes.byteOffset + byteOffset, length * width);
  const out = new Float64Array(length);
  const read = elementReader(dtype);
  for (let i = 0; i < length; i++) out[i] = read(view, i * width);
  return out;
}

/** Reads one element at a byte position of a DataView; the fast path of everything that decodes. */
export function elementReader(dtype: DType): (view: DataView, byteOffset: number) => number {
  switch (dtype) {
    case "float64":
      return (view, at) => view.getFloat64(at, true);
    case "float32":
      return (view, at) => view.getFloat32(at, true);
    case "float16":
    case "bfloat16": {
      const table = decodeTable(dtype);
      return (view, at) => table[view.getUint16(at, true)]!;
    }
    case "float8_e4m3fn":
    case "float8_e5m2": {
      const table = decodeTable(dtype);
      return (view, at) => table[view.getUint8(at)]!;
    }
    case "int64":
      return (view, at) => Number(view.getBigInt64(at, true));
    case "int32":
      return (view, at) => view.getInt32(at, true);
    case "int16":
      return (view, at) => view.getInt16(at, true);
    case "int8":
      return (view, at) => view.getInt8(at);
    case "uint8":
    case "bool":
      return (view, at) => view.getUint8(at);
  }
}

/** Encodes `values` as little-endian `dtype`, rounding to nearest, ties to even. */
export function encode(values: ArrayLike<number>, dtype: DType): Uint8Array {
  const width = widths[dtype];
  const out = new Uint8Array(values.length * width);
  const view = new DataView(out.buffer);
  for (let i = 0; i < values.length; i++) writeElement(view, i * width, values[i]!, dtype);
  return out;
}

function writeElement(view: DataView, at: number, value: number, dtype: DType): void {
  switch (dtype) {
    case "float64":
      return view.setFloat64(at, value, true);
    case "float32":
      return view.setFloat32(at, value, true);
    case "bfloat16":
    case "float16":
      return view.setUint16(at, smallFloatBits(value, dtype), true);
    case "float8_e4m3fn":
    case "float8_e5m2":
      return view.setUint8(at, smallFloatBits(value, dtype));
    case "int64":
      return view.setBigInt64(at, BigInt(Math.trunc(value)), true);
    case "int32":
      return view.setInt32(at, value, true);
    case "int16":
      return view.setInt16(at, value, true);
    case "int8":
      return view.setInt8(at, value);
    case "uint8":
      return view.setUint8(at, value);
    case "bool":
      return view.setUint8(at, value === 0 ? 0 : 1);
  }
}

/** The bit pattern of `value` in a 16- or 8-bit float format. */
export function smallFloatBits(value: number, dtype: DType): number {
  const format = floatFormats[dtype]!;
  const width = widths[dtype] * 8;
  const exponentBits = width - 1 - format.fractionBits;
  const top = (1 << exponentBits) - 1;
  const negative = value < 0 || Object.is(value, -0);
  const sign = negative ? 1 << (width - 1) : 0;
  const rounded = Math.abs(roundTo(value, dtype));
  if (Number.isNaN(rounded)) return sign | (top << format.fractionBits) | ((1 << format.fractionBits) - 1);
  if (rounded === Infinity) {
    return sign | (top << format.fractionBits) | (format.hasInfinity ? 0 : (1 << format.fractionBits) - 1);
  }
  if (rounded < 2 ** format.minExponent) return sign | (rounded / 2 ** (format.minExponent - format.fractionBits));
  const exponent = binaryExponent(rounded);
  const fraction = rounded / 2 ** (exponent - format.fractionBits) - 2 ** format.fractionBits;
  return sign | ((exponent - format.minExponent + 1) << format.fractionBits) | fraction;
}
