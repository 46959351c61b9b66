import type { ParameterBytes } from "../../src/engine/device/parameter-source.js";
import { byteWidth } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { headerLength, parseHeader, type TensorEntry } from "../../src/tensor/safetensors-header.js";

/** The weights of one safetensors file, fetched whole. */
export class FetchedCheckpoint implements ParameterBytes {
  readonly #entries: Map<string, TensorEntry>;

  constructor(
    readonly directory: string,
    readonly file: Uint8Array<ArrayBuffer>,
  ) {
    const length = headerLength(file.subarray(0, 8), file.byteLength, directory);
    this.#entries = parseHeader(file.subarray(8, 8 + length), file.byteLength, directory).entries;
  }

  entry(name: string): TensorEntry | undefined {
    return this.#entries.get(name);
  }

  /** Rows `first` to `first + count` of a parameter, in the file's own dtype. */
  bytes(name: string, first = 0, count?: number): Uint8Array {
    const entry = this.#entries.get(name);
    if (!entry) throw new InputError(`${this.directory}: the checkpoint has no parameter "${name}"`);
    const columns = entry.shape.slice(1).reduce((product, n) => product * n, 1);
    const rowBytes = columns * byteWidth(entry.dtype);
    const start = entry.start + first * rowBytes;
    const end = count === undefined ? entry.start + entry.byteLength : start + count * rowBytes;
    return this.file.slice(start, end);
  }
}
