import { elementMemoryIfMade, mostPlaced } from "./element-memory.js";
import { byteWidth, type DType, floatFormat } from "./element-type.js";
import type { FloatFormat } from "./float-format.js";

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

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

const tables = new Map<DType, Float32Array>();

/** The number of every bit pattern of a small float type; float32 holds them all, in half the cache that float64 takes. */
function tableOf(dtype: DType): Float32Array {
  let table = tables.get(dtype);
  if (!table) {
    const width = byteWidth(dtype) * 8;
    const format = floatFormat(dtype)!;
    table = Float32Array.from({ length: 1 << width }, (_, bits) => decodeSmallFloat(bits, width, format));
    tables.set(dtype, table);
  }
  return table;
}

/**
 * Reads elements of little-endian bytes by their positions. What is looked up once per buffer is looked up here, so that
 * many short runs cost what one long one does.
 */
export class Decoder {
  /** Elements there are; bytes after the last whole one are left alone. */
  readonly length: number;
  readonly #run: (first: number, count: number, stride: number, out: Float64Array, at: number) => void;

  constructor(bytes: Uint8Array, dtype: DType) {
    this.length = Math.floor(bytes.byteLength / byteWidth(dtype));
    this.#run = runOf(bytes, dtype, this.length);
  }

  /**
   * Decodes `count` elements, each `stride` after the one before, from element `first` on into `out` from `at` on.
   * @throws RangeError when an element lies outside the bytes, or outside `out`.
   */
  into(first: number, count: number, stride: number, out: Float64Array, at: number): void {
    if (count <= 0) return;
    const last = first + (count - 1) * stride;
    if (!(Math.min(first, last) >= 0 && Math.max(first, last) < this.length)) {
      throw new RangeError("bytes end before the last element");
    }
    if (at < 0 || at + count > out.length) throw new RangeError("more elements than there is room for");
    this.#run(first, count, stride, out, at);
  }
}

type Run = (first: number, count: number, stride: number, out: Float64Array, at: number) => void;

function runOf(bytes: Uint8Array, dtype: DType, length: number): Run {
  const { buffer, byteOffset } = bytes;
  const format = floatFormat(dtype);
  if (format && byteWidth(dtype) === 1) {
    const table = tableOf(dtype);
    return (first, count, stride, out, at) => lookUp(bytes, table, first, count, stride, out, at);
  }
  const isAligned = littleEndian && byteOffset % byteWidth(dtype) === 0;
  if (isAligned && format && byteWidth(dtype) === 2) {
    const words = new Uint16Array(buffer, byteOffset, length);
    const table = tableOf(dtype);
    return (first, count, stride, out, at) => {
      const widened = dtype === "bfloat16" && stride === 1 ? widen(words, first, count, out, at) : 0;
      lookUp(words, table, first + widened * stride, count - widened, stride, out, at + widened);
    };
  }
  if (isAligned && (dtype === "float32" || dtype === "float64")) {
    const single = dtype === "float32";
    const values = single ? new Float32Array(buffer, byteOffset, length) : new Float64Array(buffer, byteOffset, length);
    return (first, count, stride, out, at) => copy(values, first, count, stride, out, at);
  }
  const view = new DataView(buffer, byteOffset, bytes.byteLength);
  const read = elementReader(dtype);
  const width = byteWidth(dtype);
  return (first, count, stride, out, at) => {
    for (let i = 0; i < count; i++) out[at + i] = read(view, (first + i * stride) * width);
  };
}

/** Numbers from which a kernel is quicker, its call included. */
const worthKernel = 64;

/** Widens bfloat16 by a kernel. @returns how many it did: none of a few, and the last are left. */
function widen(words: Uint16Array, first: number, count: number, out: Float64Array, at: number): number {
  const memory = count < worthKernel ? undefined : elementMemoryIfMade();
  if (!memory) return 0;
  const all = count - (count % 4);
  const isThere = memory.holds(out);
  for (let done = 0; done < all; done += mostPlaced) {
    const some = Math.min(mostPlaced, all - done);
    const from = memory.placeWords(words, first + done, some, 0);
    if (isThere) memory.kernels.widenBfloat16(from, out.byteOffset + (at + done) * 8, some);
    else {
      memory.kernels.widenBfloat16(from, memory.slotAddress(1), some);
      const slot = memory.slot(1);
      out.set(some === slot.length ? slot : slot.subarray(0, some), at + done);
    }
  }
  return all;
}

function lookUp(
  patterns: Uint8Array | Uint16Array,
  table: Float32Array,
  first: number,
  count: number,
  stride: number,
  out: Float64Array,
  at: number,
): void {
  if (stride === 1) for (let i = 0; i < count; i++) out[at + i] = table[patterns[first + i]!]!;
  else for (let i = 0, from = first; i < count; i++, from += stride) out[at + i] = table[patterns[from]!]!;
}

function copy(
  values: Float32Array | Float64Array,
  first: number,
  count: number,
  stride: number,
  out: Float64Array,
  at: number,
): void {
  if (stride === 1) for (let i = 0; i < count; i++) out[at + i] = values[first + i]!;
  else for (let i = 0, from = first; i < count; i++, from += stride) out[at + i] = values[from]!;
}

/**
 * Decodes `count` elements of little-endian `bytes`, starting `byteOffset` bytes in.
 * @throws RangeError when the bytes end before the last element.
 */
export function decode(bytes: Uint8Array, dtype: DType, byteOffset = 0, count?: number): Float64Array {
  const length = count ?? Math.floor((bytes.byteLength - byteOffset) / byteWidth(dtype));
  const out = new Float64Array(length);
  decodeInto(bytes, dtype, byteOffset, length, out, 0);
  return out;
}

/**
 * Decodes `count` elements of little-endian `bytes`, starting `byteOffset` bytes in, into `out` from `at` on.
 * @throws RangeError when the bytes end before the last element, or `out` does.
 */
export function decodeInto(
  bytes: Uint8Array,
  dtype: DType,
  byteOffset: number,
  count: number,
  out: Float64Array,
  at: number,
): void {
  if (byteOffset + count * byteWidth(dtype) > bytes.byteLength)
    throw new RangeError("bytes end before the last element");
  new Decoder(bytes.subarray(byteOffset), dtype).into(0, count, 1, out, at);
}

/** Reads one element at a byte position of a DataView: slower than a decoder, and without its views. */
export function elementReader(dtype: DType): (view: DataView, byteOffset: number) => number {
  switch (dtype) {
    case "float64":
      return (view, at) => view.getFloat64(at, true);
    case "float32":
      return (view, at) => view.getFloat32(at, true);
    case "float16":
    case "bfloat16": {
      const table = tableOf(dtype);
      return (view, at) => table[view.getUint16(at, true)]!;
    }
    case "float8_e4m3fn":
    case "float8_e5m2": {
      const table = tableOf(dtype);
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
