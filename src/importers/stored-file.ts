import { closeSync, openSync, readSync, statSync } from "node:fs";
import { InputError } from "../tensor/errors.js";
import type { TensorEntry } from "../tensor/safetensors.js";
import type { TensorFile } from "../tensor/tensor-file.js";

/**
 * A file of someone else's format, read by ranges. It is opened for each read alone: a dump may have more files than a
 * process may hold open.
 */
export class StoredFile implements TensorFile {
  readonly size: number;

  /** @throws InputError when there is no regular file that can be read. */
  constructor(
    readonly path: string,
    expected: string,
  ) {
    try {
      const found = statSync(path);
      // Asked before opening: opening a pipe would wait for its writer.
      if (!found.isFile()) throw new InputError(`${path}: expected ${expected}, found a directory or device`);
      this.size = found.size;
      closeSync(openSync(path, "r"));
    } catch (error) {
      if (error instanceof InputError) throw error;
      throw new InputError(`${path}: expected ${expected}, but it cannot be opened`);
    }
  }

  /** `length` bytes from `start` of the file on. */
  read(start: number, length: number): Uint8Array {
    this.#expectWithin(start, length);
    const bytes = new Uint8Array(length);
    this.#fill(bytes, start);
    return bytes;
  }

  readBytes(entry: TensorEntry, byteOffset = 0, byteLength = entry.byteLength - byteOffset): Uint8Array {
    this.#expectWithin(entry.start + byteOffset, byteLength, entry);
    const bytes = new Uint8Array(byteLength);
    this.#fill(bytes, entry.start + byteOffset);
    return bytes;
  }

  readInto(target: Uint8Array, entry: TensorEntry, byteOffset = 0): void {
    this.#expectWithin(entry.start + byteOffset, target.byteLength, entry);
    this.#fill(target, entry.start + byteOffset);
  }

  #fill(target: Uint8Array, start: number): void {
    const descriptor = openSync(this.path, "r");
    try {
      for (let done = 0; done < target.byteLength; ) {
        const got = readSync(descriptor, target, done, target.byteLength - done, start + done);
        if (got === 0) throw new InputError(`${this.path}: the file was cut while it was read`);
        done += got;
      }
    } finally {
      closeSync(descriptor);
    }
  }

  #expectWithin(start: number, length: number, entry?: TensorEntry): void {
    const end = entry ? Math.min(this.size, entry.start + entry.byteLength) : this.size;
    if (!(start >= 0 && length >= 0 && start + length <= end && start >= (entry?.start ?? 0))) {
      const what = entry ? `tensor "${entry.name}"` : "the file";
      throw new InputError(`${this.path}: ${what} ends at byte ${end}, expected bytes up to ${start + length}`);
    }
  }
}

/** Bytes that were unpacked into memory. */
export class HeldFile implements TensorFile {
  constructor(
    readonly path: string,
    readonly bytes: Uint8Array,
  ) {}

  readBytes(entry: TensorEntry, byteOffset = 0, byteLength = entry.byteLength - byteOffset): Uint8Array {
    const start = entry.start + byteOffset;
    if (!(byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= entry.byteLength))
      throw new InputError(`${this.path}: tensor "${entry.name}" has ${entry.byteLength} bytes`);
    return this.bytes.slice(start, start + byteLength);
  }

  readInto(target: Uint8Array, entry: TensorEntry, byteOffset = 0): void {
    target.set(this.readBytes(entry, byteOffset, target.byteLength));
  }
}
