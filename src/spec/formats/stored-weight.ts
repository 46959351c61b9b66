import type { Checkpoint } from "../../tensor/checkpoint.js";
import { type DType, floatFormat } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { TensorEntry } from "../../tensor/safetensors.js";
import type { QuantisationConfig } from "./config.js";

/** The stored tensors that make up one quantised parameter. */
export class StoredWeight {
  constructor(
    readonly checkpoint: Checkpoint,
    readonly config: QuantisationConfig,
    /** What the parameter is called above. */
    readonly name: string,
    /** The module it belongs to, as lists in the config name it. */
    readonly module: string,
    /** Names of the stored tensors by what they are: "weight_packed", "scales". */
    readonly parts: ReadonlyMap<string, string>,
  ) {}

  has(part: string): boolean {
    return this.parts.has(part);
  }

  /** @throws InputError when the checkpoint lacks it. */
  entry(part: string): TensorEntry {
    const name = this.parts.get(part);
    if (name !== undefined) return this.checkpoint.entry(name)!;
    const [first] = this.parts.values();
    throw new InputError(
      `${this.checkpoint.fileOf(first!)}: tensor "${first}": expected a tensor "${part}" beside it, found none`,
    );
  }

  /** The entry of a part. @throws InputError when its type is none of `dtypes`, or it has not `rank` axes. */
  typed(part: string, dtypes: readonly DType[], rank?: number): TensorEntry {
    const entry = this.entry(part);
    if (!dtypes.includes(entry.dtype)) throw this.fault(part, dtypes.join(" or "), entry.dtype);
    if (rank !== undefined && entry.shape.length !== rank) throw this.fault(part, `${rank} axes`, shown(entry.shape));
    if (entry.shape.includes(0)) throw this.fault(part, "elements", shown(entry.shape));
    return entry;
  }

  /** The same with its shape known. */
  shaped(part: string, dtypes: readonly DType[], ...shapes: (readonly number[])[]): TensorEntry {
    const entry = this.typed(part, dtypes);
    if (!shapes.some((shape) => shape.join() === entry.shape.join())) {
      throw this.fault(part, `shape ${shapes.map(shown).join(" or ")}`, shown(entry.shape));
    }
    return entry;
  }

  /** All values of a part, in the order they are stored. */
  values(part: string): Float64Array {
    const { name, shape } = this.entry(part);
    return this.checkpoint.rows(name, 0, shape.length < 2 ? 1 : shape[0]!);
  }

  /** All 32-bit words of a part. */
  words(part: string): Uint32Array {
    const bytes = this.checkpoint.bytes(this.entry(part).name);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  }

  /** @throws InputError when a floating-point part but the first begins with a row of nothing but NaN. */
  expectNumbers(): void {
    const [, ...others] = this.parts;
    for (const [part, name] of others) {
      const { dtype, shape } = this.entry(part);
      if (!floatFormat(dtype) || shape.includes(0)) continue;
      if (this.checkpoint.rows(name, 0, 1).every(Number.isNaN))
        throw this.fault(part, "numbers", "NaN in its first row");
    }
  }

  /** What is wrong with a part: its file, its name, what was expected. */
  fault(part: string, expected: string, found: string): InputError {
    const { name } = this.entry(part);
    return new InputError(`${this.checkpoint.fileOf(name)}: tensor "${name}": expected ${expected}, found ${found}`);
  }
}

function shown(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}
