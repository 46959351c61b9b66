import type { ParameterBytes } from "../../spec/families/unpacked-parameters.js";
import type { ChangedParameter } from "../../tensor/changed-parameters.js";
import { byteWidth, type DType, decode, encode } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { Slot } from "./packing.js";

/** Where parameters come from: names and shapes are the checkpoint's. */
export interface ParameterSource {
  /** Type in which matrices that share a slot are stored. */
  dtypeOf(parameters: Slot["parameters"]): DType;
  /** The rows of a matrix in `dtype`, some at a time. */
  rows(name: string, shape: readonly number[], dtype: DType): Iterable<Uint8Array<ArrayBuffer>>;
  vector(name: string, length: number): Float32Array;
}

/** Bytes handed over at a time: a large embedding never lies in memory whole. */
const chunkBytes = 2 ** 24;

/** The parameters of a checkpoint. Its methods throw InputError for one that is missing or has another shape. */
export class CheckpointSource implements ParameterSource {
  constructor(readonly checkpoint: ParameterBytes) {}

  /** Projections stored in different types are joined in the widest one kernels read. */
  dtypeOf(parameters: Slot["parameters"]): DType {
    const types = new Set(parameters.map(({ name, shape }) => this.#entry(name, shape).dtype));
    return types.size === 1 ? [...types][0]! : "float32";
  }

  *rows(name: string, shape: readonly number[], dtype: DType): Generator<Uint8Array<ArrayBuffer>> {
    const stored = this.#entry(name, shape).dtype;
    const step = Math.max(1, Math.floor(chunkBytes / (shape[1]! * byteWidth(stored))));
    for (let row = 0; row < shape[0]!; row += step) {
      const raw = this.checkpoint.bytes(name, row, Math.min(step, shape[0]! - row)) as Uint8Array<ArrayBuffer>;
      yield stored === dtype ? raw : (encode(decode(raw, stored), dtype) as Uint8Array<ArrayBuffer>);
    }
  }

  vector(name: string, length: number): Float32Array {
    const { dtype } = this.#entry(name, [length]);
    return Float32Array.from(decode(this.checkpoint.bytes(name), dtype));
  }

  #entry(name: string, shape: readonly number[]) {
    const entry = this.checkpoint.entry(name);
    if (!entry) throw new InputError(`${this.checkpoint.directory}: the checkpoint has no parameter "${name}"`);
    if (entry.shape.length !== shape.length || entry.shape.some((n, k) => n !== shape[k])) {
      throw new InputError(
        `${name}: expected shape ${JSON.stringify(shape)}, found shape ${JSON.stringify(entry.shape)}`,
      );
    }
    return entry;
  }
}

/** The parameters of another source with some changed or added; those that share a slot with one are kept in float32. */
export class ChangedSource implements ParameterSource {
  constructor(
    readonly base: ParameterSource,
    readonly changed: ReadonlyMap<string, ChangedParameter>,
  ) {}

  dtypeOf(parameters: Slot["parameters"]): DType {
    return parameters.some(({ name }) => this.changed.has(name)) ? "float32" : this.base.dtypeOf(parameters);
  }

  *rows(name: string, shape: readonly number[], dtype: DType): Generator<Uint8Array<ArrayBuffer>> {
    const own = this.changed.get(name);
    if (own) yield encode(own.values, dtype) as Uint8Array<ArrayBuffer>;
    else yield* this.base.rows(name, shape, dtype);
  }

  vector(name: string, length: number): Float32Array {
    const own = this.changed.get(name);
    return own ? Float32Array.from(own.values) : this.base.vector(name, length);
  }
}

/** Normal variates of spread 0.02; norms and biases are ones. The numbers of a few megabytes repeat. */
export class RandomSource implements ParameterSource {
  readonly #block: Uint8Array<ArrayBuffer>;
  #next = 0;

  constructor(
    readonly dtype: DType,
    seed: number,
  ) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return state / 2 ** 32;
    };
    // The sum of four uniform numbers has variance 1/3.
    const normal = () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3) * 0.02;
    this.#block = encode(Float32Array.from({ length: 2 ** 20 + 8 }, normal), dtype) as Uint8Array<ArrayBuffer>;
  }

  dtypeOf(): DType {
    return this.dtype;
  }

  *rows(_name: string, shape: readonly number[]): Generator<Uint8Array<ArrayBuffer>> {
    let left = shape[0]! * shape[1]! * byteWidth(this.dtype);
    while (left > 0) {
      const count = Math.min(left, this.#block.byteLength - this.#next);
      yield this.#block.subarray(this.#next, this.#next + count);
      this.#next = (this.#next + count) % this.#block.byteLength;
      left -= count;
    }
  }

  vector(_name: string, length: number): Float32Array {
    return new Float32Array(length).fill(1);
  }
}
