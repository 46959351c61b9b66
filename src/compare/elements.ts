import type { TensorSource } from "../capture/capture.js";
import { byteWidth, type DType } from "../tensor/dtype.js";

/** A recorded value as elements in logical order (row-major), read by ranges: nothing is held between reads. */
export interface Elements {
  readonly dtype: DType;
  readonly length: number;
  /** The stored bytes of `count` elements from logical element `first` on. The array is valid until the next read. */
  read(first: number, count: number): Uint8Array;
}

/** A box of elements: sizes, strides within the recorded bytes and strides within the output, all in elements. */
interface Box {
  readonly sizes: readonly number[];
  readonly strides: readonly number[];
  readonly outStrides: readonly number[];
}

/** Bytes between the elements of a box that are read along rather than skipped by another read. */
const nearBytes = 64 * 1024;

/** A strided view of one recorded tensor. */
export class StridedElements implements Elements {
  readonly length: number;
  readonly #inner: number[];
  readonly #contiguous: boolean;
  readonly #width: number;
  #scratch = new Uint8Array(0);

  /** @param base element of the recorded bytes at index 0 of every axis. */
  constructor(
    readonly source: TensorSource,
    readonly dtype: DType,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    readonly base = 0,
  ) {
    this.#width = byteWidth(dtype);
    this.#inner = shape.map((_, k) => shape.slice(k + 1).reduce((product, n) => product * n, 1));
    this.length = shape.reduce((product, n) => product * n, 1);
    this.#contiguous = shape.every((n, k) => n === 1 || strides[k] === this.#inner[k]);
  }

  read(first: number, count: number): Uint8Array {
    const width = this.#width;
    if (this.#contiguous) {
      return this.source.file.readBytes(this.source.entry, (this.base + first) * width, count * width);
    }
    if (this.#scratch.byteLength < count * width) this.#scratch = new Uint8Array(count * width);
    const out = this.#scratch.subarray(0, count * width);
    this.#range(0, this.base, first, count, out, 0);
    return out;
  }

  /** Elements `first` to `first + count` of the sub-tensor of axes `axis` and later, which starts at `base`. */
  #range(axis: number, base: number, first: number, count: number, out: Uint8Array, at: number): void {
    const inner = this.#inner[axis] ?? 1;
    const stride = this.strides[axis] ?? 0;
    while (count > 0) {
      const index = Math.floor(first / inner);
      const rest = first - index * inner;
      let taken: number;
      if (rest === 0 && count >= inner) {
        const sizes = [Math.floor(count / inner), ...this.shape.slice(axis + 1)];
        taken = sizes[0]! * inner;
        const box = { sizes, strides: [stride, ...this.strides.slice(axis + 1)], outStrides: rowMajor(sizes) };
        this.#gather(box, base + index * stride, out, at);
      } else {
        taken = Math.min(count, inner - rest);
        this.#range(axis + 1, base + index * stride, rest, taken, out, at);
      }
      first += taken;
      count -= taken;
      at += taken;
    }
  }

  /** Reads the span of a box at once where it is dense enough, else part by part along its widest axis. */
  #gather(box: Box, base: number, out: Uint8Array, at: number): void {
    const { sizes, strides, outStrides } = box;
    const width = this.#width;
    const reach = sizes.map((n, k) => (n - 1) * strides[k]!);
    const span = reach.reduce((sum, n) => sum + n, 1);
    const elements = sizes.reduce((product, n) => product * n, 1);
    if (span <= 4 * elements || span * width <= nearBytes) {
      const bytes = this.source.file.readBytes(this.source.entry, base * width, span * width);
      copyBox(unsigned(bytes, width), box, 0, 0, unsigned(out, width), at);
      return;
    }
    const widest = reach.indexOf(Math.max(...reach));
    const part = { sizes: sizes.with(widest, 1), strides, outStrides };
    for (let i = 0; i < sizes[widest]!; i++) {
      this.#gather(part, base + i * strides[widest]!, out, at + i * outStrides[widest]!);
    }
  }
}

/** Several views one after the other: the slots of KV pages, the last rows of sequences. */
export class JoinedElements implements Elements {
  readonly length: number;
  readonly #starts: number[] = [];
  readonly #width: number;

  constructor(
    readonly dtype: DType,
    readonly parts: readonly StridedElements[],
  ) {
    let length = 0;
    for (const part of parts) {
      this.#starts.push(length);
      length += part.length;
    }
    this.length = length;
    this.#width = byteWidth(dtype);
  }

  read(first: number, count: number): Uint8Array {
    const out = new Uint8Array(count * this.#width);
    let done = 0;
    for (let p = this.#partOf(first); done < count; p++) {
      const within = first + done - this.#starts[p]!;
      const taken = Math.min(count - done, this.parts[p]!.length - within);
      out.set(this.parts[p]!.read(within, taken), done * this.#width);
      done += taken;
    }
    return out;
  }

  #partOf(element: number): number {
    let low = 0;
    let high = this.parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#starts[middle]! <= element) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

export function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, k) => shape.slice(k + 1).reduce((product, n) => product * n, 1));
}

type Unsigned = Uint8Array | Uint16Array | Uint32Array | Float64Array;

function unsigned(bytes: Uint8Array, width: number): Unsigned {
  const length = bytes.byteLength / width;
  if (width === 1) return bytes;
  if (width === 2) return new Uint16Array(bytes.buffer, bytes.byteOffset, length);
  if (width === 4) return new Uint32Array(bytes.buffer, bytes.byteOffset, length);
  // Float64Array only carries the eight bytes along, whatever they mean.
  return new Float64Array(bytes.buffer, bytes.byteOffset, length);
}

function copyBox(from: Unsigned, box: Box, axis: number, base: number, to: Unsigned, at: number): void {
  const size = box.sizes[axis]!;
  const stride = box.strides[axis]!;
  const outStride = box.outStrides[axis]!;
  if (axis < box.sizes.length - 1) {
    for (let i = 0; i < size; i++) copyBox(from, box, axis + 1, base + i * stride, to, at + i * outStride);
  } else for (let i = 0; i < size; i++) to[at + i * outStride] = from[base + i * stride]!;
}
