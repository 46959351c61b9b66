import { byteWidth, type DType, decode } from "../tensor/dtype.js";

/** Types whose every value is a float32, so that comparing them in float32 loses nothing. */
const narrowTypes = new Set<DType>([
  "float32",
  "float16",
  "bfloat16",
  "float8_e4m3fn",
  "float8_e5m2",
  "int16",
  "int8",
  "uint8",
  "bool",
]);

/** Whether every value of `dtype` is a float32. */
export function isNarrow(dtype: DType): boolean {
  return narrowTypes.has(dtype);
}

const words = new Map<DType, Uint32Array>();

/** The float32 bit pattern of every bit pattern of an 8- or 16-bit type, [2^bits]. */
export function float32Words(dtype: DType): Uint32Array {
  let table = words.get(dtype);
  if (!table) {
    const width = byteWidth(dtype);
    const codes = width === 1 ? new Uint8Array(256) : new Uint16Array(65536);
    for (let code = 0; code < codes.length; code++) codes[code] = code;
    table = new Uint32Array(Float32Array.from(decode(new Uint8Array(codes.buffer), dtype)).buffer);
    words.set(dtype, table);
  }
  return table;
}

/** One chunk of a value, decoded: float32 for narrow types, float64 for the others. */
export type Decoded =
  | { readonly values: Float32Array; readonly words: Uint32Array }
  | { readonly values: Float64Array };

/** Decodes chunks into buffers of its own, which the next chunk overwrites. */
export class ChunkDecoder {
  readonly #table: Uint32Array | undefined;
  readonly #words: Uint32Array;

  constructor(
    readonly dtype: DType,
    capacity: number,
  ) {
    const width = byteWidth(dtype);
    this.#table = width <= 2 ? float32Words(dtype) : undefined;
    this.#words = new Uint32Array(width <= 2 ? capacity : 0);
  }

  /** `bytes` start at a multiple of the element width. */
  decode(bytes: Uint8Array): Decoded {
    const { dtype } = this;
    if (dtype === "float32") {
      const length = bytes.byteLength / 4;
      return {
        values: new Float32Array(bytes.buffer, bytes.byteOffset, length),
        words: new Uint32Array(bytes.buffer, bytes.byteOffset, length),
      };
    }
    if (dtype === "float64") return { values: new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8) };
    if (!this.#table) return { values: decode(bytes, dtype) };
    const codes = smallCodes(bytes, dtype);
    const out = this.#words.subarray(0, codes.length);
    if (dtype === "bfloat16") for (let i = 0; i < codes.length; i++) out[i] = codes[i]! << 16;
    else for (let i = 0; i < codes.length; i++) out[i] = this.#table[codes[i]!]!;
    return { values: new Float32Array(out.buffer, 0, codes.length), words: out };
  }
}

/** The bit patterns of an 8- or 16-bit type. */
export function smallCodes(bytes: Uint8Array, dtype: DType): Uint8Array | Uint16Array {
  return byteWidth(dtype) === 1 ? bytes : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}
