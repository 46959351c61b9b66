import { closeSync, fstatSync, openSync, readSync, statSync, writeSync } from "node:fs";
import type { DType } from "./dtype.js";
import { InputError } from "./errors.js";
import { codeOf, headerLength, parseHeader, type TensorEntry } from "./safetensors-header.js";
import type { TensorFile } from "./tensor-file.js";

export type { TensorEntry } from "./safetensors-header.js";

/**
 * A safetensors file, read by byte ranges: only the header is held in memory.
 * https://github.com/huggingface/safetensors
 */
export class SafetensorsFile implements TensorFile {
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
    this.#expectWithin(entry, byteOffset, byteLength);
    const bytes = new Uint8Array(byteLength);
    this.readInto(bytes, entry, byteOffset);
    return bytes;
  }

  /** Fills `target` with the bytes of a tensor from `byteOffset` within it. */
  readInto(target: Uint8Array, entry: TensorEntry, byteOffset = 0): void {
    const byteLength = target.byteLength;
    this.#expectWithin(entry, byteOffset, byteLength);
    if (this.#descriptor === undefined) throw new Error(`${this.path} was closed before it was read`);
    let done = 0;
    while (done < byteLength) {
      const got = readSync(this.#descriptor, target, done, byteLength - done, entry.start + byteOffset + done);
      if (got === 0) throw new InputError(`${this.path}: the file ends inside tensor "${entry.name}"`);
      done += got;
    }
  }

  #expectWithin(entry: TensorEntry, byteOffset: number, byteLength: number): void {
    if (byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > entry.byteLength) {
      throw new InputError(
        `${this.path}: tensor "${entry.name}" has ${entry.byteLength} bytes; a view of it reaches byte ${byteOffset + byteLength}`,
      );
    }
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
  const got = readSync(descriptor, prefix, 0, 8, 0);
  const headerBytes = new Uint8Array(headerLength(prefix.subarray(0, got), size, path));
  readSync(descriptor, headerBytes, 0, headerBytes.byteLength, 8);
  return parseHeader(headerBytes, size, path);
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
