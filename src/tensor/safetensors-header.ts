import { byteWidth, type DType } from "./dtype.js";
import { InputError } from "./errors.js";
import { parseJson } from "./json.js";

/** Where one tensor's bytes lie: `start` counts from the beginning of the file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly start: number;
  readonly byteLength: number;
}

const dtypeOf: Record<string, DType> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  F8_E4M3: "float8_e4m3fn",
  F8_E5M2: "float8_e5m2",
  I64: "int64",
  I32: "int32",
  I16: "int16",
  I8: "int8",
  U8: "uint8",
  BOOL: "bool",
};
/** The format's name of each dtype. */
export const codeOf = Object.fromEntries(Object.entries(dtypeOf).map(([code, dtype]) => [dtype, code])) as Record<
  DType,
  string
>;

/** Room for some 300,000 tensors. The format allows 100 MB, but parsed JSON takes up to twenty times its text. */
const maxHeaderBytes = 32 * 2 ** 20;

/**
 * Bytes of the header, from the file's first 8 bytes.
 * @param size of the file.
 * @throws InputError when the file has no such header.
 */
export function headerLength(prefix: Uint8Array, size: number, path: string): number {
  if (size < 8 || prefix.byteLength < 8) {
    throw new InputError(`${path}: expected a safetensors file of at least 8 bytes, found ${size}`);
  }
  const length = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (length > maxHeaderBytes || length > size - 8) {
    throw new InputError(
      `${path}: not a safetensors file, or truncated: its header claims ${length} bytes, the file has ${size}`,
    );
  }
  return length;
}

export interface SafetensorsHeader {
  readonly entries: Map<string, TensorEntry>;
  readonly metadata: Record<string, string>;
}

/**
 * Where every tensor of a safetensors file lies.
 * @param headerBytes what follows the first 8 bytes.
 * @param size of the file.
 * @throws InputError when the header is malformed, or its tensors do not fill the file.
 */
export function parseHeader(headerBytes: Uint8Array, size: number, path: string): SafetensorsHeader {
  const header = parseJson(decodeHeader(headerBytes), path, "not a safetensors file: its header is not JSON");
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new InputError(`${path}: safetensors header: expected an object`);
  }
  const entries = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") {
      if (typeof value === "object" && value !== null) metadata = value as Record<string, string>;
      continue;
    }
    entries.set(name, parseEntry(path, name, value, 8 + headerBytes.byteLength, size));
  }
  checkContiguous(path, entries, 8 + headerBytes.byteLength, size);
  return { entries, metadata };
}

/** Text that is not UTF-8 is not JSON either: it gets the same message. */
function decodeHeader(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return "";
  }
}

/** The format allows neither overlaps nor holes: tensors fill the file from the header's end to the last byte. */
function checkContiguous(path: string, entries: ReadonlyMap<string, TensorEntry>, dataStart: number, fileSize: number) {
  let end = dataStart;
  for (const entry of [...entries.values()].sort((a, b) => a.start - b.start || a.byteLength - b.byteLength)) {
    if (entry.start !== end) {
      const fault = entry.start < end ? "overlaps the tensor before it" : "leaves a hole before it";
      throw new InputError(
        `${path}: tensor "${entry.name.slice(0, 200)}": data_offsets: expected to start at ${end - dataStart}, found ${entry.start - dataStart}: it ${fault}`,
      );
    }
    end = entry.start + entry.byteLength;
  }
  if (end !== fileSize) {
    throw new InputError(
      `${path}: its tensors end at byte ${end}, the file at ${fileSize}: expected no bytes after them`,
    );
  }
}

function parseEntry(path: string, name: string, value: unknown, dataStart: number, fileSize: number): TensorEntry {
  const where = `${path}: tensor "${name.slice(0, 200)}"`;
  if (typeof value !== "object" || value === null) throw new InputError(`${where}: expected an object in the header`);
  const { dtype: code, shape, data_offsets: offsets } = value as Record<string, unknown>;
  const dtype = typeof code === "string" && Object.hasOwn(dtypeOf, code) ? dtypeOf[code] : undefined;
  if (!dtype)
    throw new InputError(
      `${where}: dtype ${JSON.stringify(code)?.slice(0, 40)} is not one of ${Object.keys(dtypeOf).join(", ")}`,
    );
  if (!Array.isArray(shape) || shape.length > 8 || !shape.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new InputError(`${where}: shape: expected up to 8 whole numbers`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw new InputError(`${where}: data_offsets: expected two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  const byteLength = (shape as number[]).reduce((product, n) => product * n, 1) * byteWidth(dtype);
  if (end - begin !== byteLength) {
    throw new InputError(`${where}: data_offsets span ${end - begin} bytes, shape and dtype need ${byteLength}`);
  }
  if (dataStart + end > fileSize)
    throw new InputError(`${where}: its bytes end at ${dataStart + end}, the file at ${fileSize}: truncated`);
  return { name, dtype, shape: shape as number[], start: dataStart + begin, byteLength };
}
