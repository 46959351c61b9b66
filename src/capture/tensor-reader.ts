import { byteWidth, type DType, elementReader } from "../tensor/dtype.js";
import type { TensorSource } from "./capture.js";

const byteCacheLimit = 48 * 2 ** 20;
const wholeTensorLimit = 8 * 2 ** 20;

/** Elements of recorded tensors as numbers. Small tensors are held for a while, large ones read by ranges. */
export class TensorReader {
  readonly #bytes = new Map<string, Uint8Array>();
  #byteCount = 0;

  /** `count` elements of a tensor, addressed within its recorded bytes. */
  gather(source: TensorSource, dtype: DType, count: number, elementOf: (i: number) => number): Float64Array {
    const width = byteWidth(dtype);
    const read = elementReader(dtype);
    const out = new Float64Array(count);
    if (source.entry.byteLength <= wholeTensorLimit) {
      const bytes = this.#whole(source);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < count; i++) out[i] = read(view, elementOf(i) * width);
      return out;
    }
    let first = Infinity;
    let last = -Infinity;
    for (let i = 0; i < count; i++) {
      const element = elementOf(i);
      if (element < first) first = element;
      if (element > last) last = element;
    }
    if ((last - first) * width > 8 * count * width + wholeTensorLimit) {
      for (let i = 0; i < count; i++) {
        const bytes = source.file.readBytes(source.entry, elementOf(i) * width, width);
        out[i] = read(new DataView(bytes.buffer), 0);
      }
      return out;
    }
    const bytes = source.file.readBytes(source.entry, first * width, (last - first + 1) * width);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < count; i++) out[i] = read(view, (elementOf(i) - first) * width);
    return out;
  }

  #whole({ file, entry }: TensorSource): Uint8Array {
    const key = `${file.path} ${entry.name}`;
    const known = this.#bytes.get(key);
    if (known) return known;
    const bytes = file.readBytes(entry);
    this.#bytes.set(key, bytes);
    this.#byteCount += bytes.byteLength;
    for (const [oldest, old] of this.#bytes) {
      if (this.#byteCount <= byteCacheLimit) break;
      this.#bytes.delete(oldest);
      this.#byteCount -= old.byteLength;
    }
    return bytes;
  }
}
