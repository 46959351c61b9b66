import { Checkpoint, type ParameterReader, type StoredParameter } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import type { TensorEntry } from "../../tensor/safetensors.js";
import { readQuantisationConfig } from "./config.js";
import { ScaledWeight, WeightMemory } from "./scaled-weight.js";
import { type LocatedWeight, locateWeights } from "./table.js";
import type { WeightFormat } from "./weight-format.js";

/**
 * The parameters of a Hugging Face model folder by the names the model gives them, whatever the format they are kept in:
 * `X.weight` stands for the codes, scales and zero points of X.
 */
export class ModelParameters implements ParameterReader {
  readonly #checkpoint: Checkpoint;
  readonly #located: ReadonlyMap<string, LocatedWeight>;
  readonly #parts: ReadonlySet<string>;
  readonly #opened = new Map<string, QuantisedParameter>();
  readonly #memory = new WeightMemory();

  /** @throws InputError as a Checkpoint does, and where config.json and the stored tensors contradict each other. */
  constructor(readonly directory: string) {
    this.#checkpoint = new Checkpoint(directory);
    try {
      this.#located = locateWeights(this.#checkpoint, readQuantisationConfig(directory));
      this.#parts = new Set([...this.#located.values()].flatMap(({ stored }) => [...stored.parts.values()]));
    } catch (error) {
      this.#checkpoint.close();
      throw error;
    }
  }

  *names(): Generator<string> {
    yield* this.#located.keys();
    for (const name of this.#checkpoint.names()) if (!this.#parts.has(name)) yield name;
  }

  /** @throws InputError when the tensors of a quantised parameter do not fit together. */
  shape(name: string): readonly number[] | undefined {
    return this.quantised(name)?.shape ?? (this.#parts.has(name) ? undefined : this.#checkpoint.shape(name));
  }

  dtype(name: string): DType | undefined {
    return this.quantised(name)?.dtype ?? this.#checkpoint.dtype(name);
  }

  rows(name: string, first: number, count: number): Float64Array {
    return this.quantised(name)?.rows(first, count) ?? this.#checkpoint.rows(name, first, count);
  }

  elements(name: string, first: number, count: number): Float64Array {
    const parameter = this.quantised(name);
    if (!parameter) return this.#checkpoint.elements(name, first, count);
    const perRow = parameter.shape.slice(1).reduce((product, n) => product * n, 1);
    const row = Math.floor(first / perRow);
    const rows = parameter.rows(row, Math.ceil((first + count) / perRow) - row);
    return rows.subarray(first - row * perRow, first - row * perRow + count);
  }

  stored(name: string): StoredParameter | undefined {
    return this.#located.has(name) ? undefined : this.#checkpoint.stored(name);
  }

  /** The weight format a parameter is kept in; undefined for plain ones. */
  format(name: string): WeightFormat | undefined {
    return this.#located.get(name)?.format;
  }

  quantised(name: string): QuantisedParameter | undefined {
    const known = this.#opened.get(name);
    if (known) return known;
    const located = this.#located.get(name);
    if (!located) return undefined;
    const { format, stored } = located;
    const layout = format.layout(stored);
    stored.expectNumbers();
    const opened = format.arrange?.(stored, layout, this.#memory) ?? new ScaledWeight(name, layout, this.#memory);
    this.#opened.set(name, opened);
    return opened;
  }

  /** Where the bytes of a plain parameter lie. @throws InputError when it is quantised. */
  entry(name: string): TensorEntry | undefined {
    this.#expectPlain(name);
    return this.#checkpoint.entry(name);
  }

  /** The bytes of a plain parameter's rows. @throws InputError when it is quantised. */
  bytes(name: string, first?: number, count?: number): Uint8Array {
    this.#expectPlain(name);
    return this.#checkpoint.bytes(name, first, count);
  }

  close(): void {
    this.#checkpoint.close();
  }

  #expectPlain(name: string): void {
    const format = this.format(name);
    if (!format) return;
    throw new InputError(
      `${this.directory}: "${name}": expected a plain weight, found ${format.title}: only the reference path reads it`,
    );
  }
}
