import { closeSync, fstatSync, openSync, readSync, statSync, writeSync } from "node:fs";
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
const codeOf = Object.fromEntries(Object.entries(dtypeOf).map(([code, dtype]) => [dtype, code])) as Record<
  DType,
  string
>;

/** Room for some 300,000 tensors. The format allows 100 MB, but parsed JSON takes up to twenty times its text. */
const maxHeaderBytes = 32 * 2 ** 20;

/**
 * A safetensors file, read by byte ranges: only the header is held in memory.
 * https://github.com/huggingface/safetensors
 */
export class SafetensorsFile {
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  #descriptor: number | undefined;

  /** @throws InputError when the file is missing, truncated, or its header is malformed. */
  constructor(readonly path: string) {
    const descriptor = openForReading(path);
    try {
      const { entries, metadata } = readHeader(descriptor, path);
      this.entries = entries;
      this.metadata = metadata;
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
    this.#descriptor = descriptor;
  }

  /** @throws InputError when the file has no tensor of that name. */
  entry(name: string): TensorEntry {
    const entry = this.entries.get(name);
    if (!entry) throw new InputError(`${this.path}: expected a tensor named "${name}", found none`);
    return entry;
  }

  /** `byteLength` bytes of a tensor, from `byteOffset` within it. */
  readBytes(entry: TensorEntry, byteOffset = 0, byteLength = entry.byteLength - byteOffset): Uint8Array {
    if (byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > entry.byteLength) {
      throw new InputError(
        `${this.path}: tensor "${entry.name}" has ${entry.byteLength} bytes; a view of it reaches byte ${byteOffset + byteLength}`,
      );
    }
    if (this.#descriptor === undefined) throw new Error(`${this.path} was closed before it was read`);
    const bytes = new Uint8Array(byteLength);
    let done = 0;
    while (done < byteLength) {
      const got = readSync(this.#descriptor, bytes, done, byteLength - done, entry.start + byteOffset + done);
      if (got === 0) throw new InputError(`${this.path}: the file ends inside tensor "${entry.name}"`);
      done += got;
    }
    return bytes;
  }

  /** Closing twice is allowed. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

function openForReading(path: string): number {
  try {
    // Asked before opening: opening a pipe would wait for its writer.
    if (statSync(path).isFile()) return openSync(path, "r");
  } catch {
    throw new InputError(`${path}: expected a safetensors file, but it cannot be opened`);
  }
  throw new InputError(`${path}: expected a safetensors file, found a directory or device`);
}

function readHeader(descriptor: number, path: string) {
  const size = fstatSync(descriptor).size;
  const prefix = new Uint8Array(8);
  if (size < 8 || readSync(descriptor, prefix, 0, 8, 0) < 8) {
    throw new InputError(`${path}: expected a safetensors file of at least 8 bytes, found ${size}`);
  }
  const headerLength = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerLength > maxHeaderBytes || headerLength > size - 8) {
    throw new InputError(
      `${path}: not a safetensors file, or truncated: its header claims ${headerLength} bytes, the file has ${size}`,
    );
  }
  const headerBytes = new Uint8Array(headerLength);
  readSync(descriptor, headerBytes, 0, headerLength, 8);
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
    entries.set(name, parseEntry(path, name, value, 8 + headerLength, size));
  }
  checkContiguous(path, entries, 8 + headerLength, size);
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

/** One tensor to write: its bytes are already encoded as `dtype`. */
export interface TensorBytes {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * Writes a safetensors file at `path`.
 * @throws InputError when the file exists: nothing is ever overwritten.
 */
export function writeSafetensors(path: string, tensors: readonly TensorBytes[]): void {
  const header: Record<string, unknown> = Object.create(null);
  let position = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype: codeOf[dtype], shape, data_offsets: [position, position + bytes.byteLength] };
    position += bytes.byteLength;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const headerBytes = Buffer.from(text);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(headerBytes.length));
  let descriptor: number;
  try {
    descriptor = openSync(path, "wx");
  } catch {
    throw new InputError(`${path}: cannot be created (it exists, or its folder does not)`);
  }
  try {
    writeSync(descriptor, prefix);
    writeSync(descriptor, headerBytes);
    for (const { bytes } of tensors) {
      for (let done = 0; done < bytes.byteLength; ) done += writeSync(descriptor, bytes, done);
    }
  } finally {
    closeSync(descriptor);
  }
}
