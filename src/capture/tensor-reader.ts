import { byteWidth, Decoder, type DType } from "../tensor/dtype.js";
import type { TensorEntry } from "../tensor/safetensors.js";
import type { TensorSource } from "./capture.js";
import { elementOfColumn, type Pieces, reachOf } from "./pieces.js";

const byteCacheLimit = 16 * 2 ** 20;
const wholeTensorLimit = 8 * 2 ** 20;
/** Bytes read in vain with a row that are cheaper than a second read. */
const gapLimit = 2 ** 16;

/** Bytes of a tensor that are held, and how they were decoded last. */
interface Held {
  readonly bytes: Uint8Array;
  dtype: DType;
  decoder: Decoder;
}

/** Elements of recorded tensors as numbers. Small tensors are held for a while, large ones read by ranges. */
export class TensorReader {
  readonly #held = new Map<TensorEntry, Held>();
  #byteCount = 0;
  #scratch: Uint8Array = new Uint8Array(0);

  /**
   * Decodes the columns of one row of a tensor into `out` from `at` on.
   * @param start the row's first column, in elements of the recorded bytes.
   * @throws RangeError when a small tensor ends before an element, InputError when a large one does.
   */
  row(source: TensorSource, dtype: DType, start: number, pieces: Pieces, out: Float64Array, at: number): void {
    if (source.entry.byteLength <= wholeTensorLimit) {
      decodePieces(this.#whole(source, dtype), start, pieces, out, at);
      return;
    }
    const width = byteWidth(dtype);
    const [nearest, farthest] = reachOf(pieces);
    const span = (farthest - nearest + 1) * width;
    const own = pieces.count * pieces.length * width;
    if (span <= 2 * own + gapLimit) {
      decodePieces(this.#range(source, dtype, start + nearest, span), -nearest, pieces, out, at);
    } else if (pieces.step === 1) {
      for (let p = 0; p < pieces.count; p++) {
        const piece = this.#range(source, dtype, start + p * pieces.apart, pieces.length * width);
        piece.into(0, pieces.length, 1, out, at + p * pieces.length);
      }
    } else if (span <= 8 * own + wholeTensorLimit) {
      decodePieces(this.#range(source, dtype, start + nearest, span), -nearest, pieces, out, at);
    } else {
      const columns = pieces.count * pieces.length;
      for (let c = 0; c < columns; c++) {
        this.#range(source, dtype, start + elementOfColumn(pieces, c), width).into(0, 1, 1, out, at + c);
      }
    }
  }

  /** Elements from `first` on, until the next range is read. */
  #range({ file, entry }: TensorSource, dtype: DType, first: number, byteLength: number): Decoder {
    const byteOffset = first * byteWidth(dtype);
    // What is read anew has been checked against the tensor's size before memory was taken.
    if (this.#scratch.length < byteLength) this.#scratch = file.readBytes(entry, byteOffset, byteLength);
    else file.readInto(this.#scratch.subarray(0, byteLength), entry, byteOffset);
    return new Decoder(this.#scratch.subarray(0, byteLength), dtype);
  }

  #whole({ file, entry }: TensorSource, dtype: DType): Decoder {
    const known = this.#held.get(entry);
    if (known) {
      if (known.dtype !== dtype) {
        known.dtype = dtype;
        known.decoder = new Decoder(known.bytes, dtype);
      }
      return known.decoder;
    }
    const bytes = this.#room(entry.byteLength);
    file.readInto(bytes, entry);
    const held: Held = { bytes, dtype, decoder: new Decoder(bytes, dtype) };
    this.#held.set(entry, held);
    this.#byteCount += bytes.byteLength;
    return held.decoder;
  }

  /** Memory for a small tensor, of those held longest where there is no more: layers have tensors of the same sizes. */
  #room(byteLength: number): Uint8Array {
    let free: Uint8Array | undefined;
    for (const [oldest, { bytes }] of this.#held) {
      if (this.#byteCount + byteLength <= byteCacheLimit) break;
      this.#held.delete(oldest);
      this.#byteCount -= bytes.byteLength;
      if (bytes.byteLength === byteLength) free = bytes;
    }
    return free ?? new Uint8Array(byteLength);
  }
}

function decodePieces(
  decoder: Decoder,
  start: number,
  { count, length, apart, step }: Pieces,
  out: Float64Array,
  at: number,
): void {
  for (let p = 0; p < count; p++) decoder.into(start + p * apart, length, step, out, at + p * length);
}
