import type { DeclaredParameter } from "../../spec/families/declaration.js";
import { type ParameterBytes, unpackedBytes } from "../../spec/families/unpacked-parameters.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { declareDecoder, decoderGraph } from "../../spec/models/decoder.js";
import type { ChangedParameter } from "../../tensor/changed-parameters.js";
import { byteWidth, type DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import { standardProgram } from "../program/standard-program.js";
import type { Backend, DeviceBuffer } from "./backend.js";
import { formatOf } from "./element-format.js";
import { type Slot, slotsOf, slotsOfParameters } from "./packing.js";
import { ChangedSource, CheckpointSource, type ParameterSource, RandomSource } from "./parameter-source.js";

/** A matrix [rows, columns] in device memory, row-major without padding. */
export interface Matrix {
  readonly buffer: DeviceBuffer;
  readonly rows: number;
  readonly columns: number;
  readonly dtype: DType;
}

/** A parameter as rows of a matrix that it may share with others. */
export interface MatrixRows {
  /** The slot it lies in. */
  readonly slot: Slot;
  readonly matrix: Matrix;
  readonly firstRow: number;
  readonly rowCount: number;
}

/** A parameter as elements of a float32 vector that it may share with others. */
export interface VectorPart {
  readonly buffer: DeviceBuffer;
  readonly offset: number;
}

/** The model's parameters as kernels read them: matrices in the checkpoint's own type, vectors in float32. */
export class Weights {
  byteLength = 0;
  readonly #matrices = new Map<string, MatrixRows>();
  readonly #vectors = new Map<string, VectorPart>();
  readonly #slots = new Map<string, Slot>();
  readonly #buffers: DeviceBuffer[] = [];

  private constructor(
    readonly backend: Backend,
    readonly config: ModelConfig,
    readonly source: ParameterSource,
    readonly base?: Weights,
  ) {}

  /** Fills every slot of a model from `source`, one after the other. */
  static load(backend: Backend, config: ModelConfig, source: ParameterSource): Weights {
    // Refuses a model before gigabytes of it are read.
    const graph = decoderGraph(config);
    standardProgram(graph);
    backend.requireWidths(graph);
    const weights = new Weights(backend, config, source);
    for (const slot of slotsOf(config)) weights.#add(slot, source);
    return weights;
  }

  /**
   * These weights with some parameters changed or added: whatever shares memory with one of them lies there anew, the
   * rest stays where it is. To be destroyed before these are.
   * @param added parameters that the model does not have, in the order of their values.
   */
  with(changed: ReadonlyMap<string, ChangedParameter>, added: readonly DeclaredParameter[] = []): Weights {
    const weights = new Weights(this.backend, this.config, this.source, this);
    const source = new ChangedSource(this.source, changed);
    const own = slotsOf(this.config).filter(({ parameters }) => parameters.some(({ name }) => changed.has(name)));
    for (const slot of [...own, ...slotsOfParameters(added)]) weights.#add(slot, source);
    return weights;
  }

  /** Where the matrix `name` lies. */
  matrix(name: string): MatrixRows {
    const found = this.#matrices.get(name) ?? this.base?.matrix(name);
    if (!found) throw new Error(`the model has no matrix "${name}"`);
    return found;
  }

  /** Where the vector `name` lies. */
  vector(name: string): VectorPart {
    const found = this.#vectors.get(name) ?? this.base?.vector(name);
    if (!found) throw new Error(`the model has no vector "${name}"`);
    return found;
  }

  /** Label of the slot that holds exactly these parameters in this order, or undefined. */
  slotOf(names: readonly string[]): string | undefined {
    const slot = this.#slots.get(names[0]!);
    if (!slot && this.base) return this.base.slotOf(names);
    const same = slot?.parameters.length === names.length && slot.parameters.every(({ name }, i) => name === names[i]);
    return same ? slot.label : undefined;
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  #add(slot: Slot, source: ParameterSource): void {
    for (const { name } of slot.parameters) this.#slots.set(name, slot);
    if (slot.parameters[0]!.shape.length === 1) this.#addVector(slot, source);
    else this.#addMatrix(slot, source);
  }

  #addMatrix(slot: Slot, source: ParameterSource): void {
    const { parameters, label } = slot;
    const rows = parameters.reduce((sum, { shape }) => sum + shape[0]!, 0);
    const columns = parameters[0]!.shape[1]!;
    const dtype = source.dtypeOf(parameters);
    formatOf(dtype, parameters[0]!.name);
    const buffer = this.#keep(this.backend.buffer(label, rows * columns * byteWidth(dtype)));
    const matrix = { buffer, rows, columns, dtype };
    let at = 0;
    let firstRow = 0;
    for (const { name, shape } of parameters) {
      this.#matrices.set(name, { slot, matrix, firstRow, rowCount: shape[0]! });
      firstRow += shape[0]!;
      for (const bytes of source.rows(name, shape, dtype)) {
        this.backend.write(buffer, at, bytes);
        at += bytes.byteLength;
      }
    }
  }

  #addVector({ parameters, label }: Slot, source: ParameterSource): void {
    const parts = parameters.map(({ name, shape }) => source.vector(name, shape[0]!));
    const values = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    const buffer = this.#keep(this.backend.buffer(label, values.byteLength));
    let offset = 0;
    for (const [i, part] of parts.entries()) {
      this.#vectors.set(parameters[i]!.name, { buffer, offset });
      values.set(part, offset);
      offset += part.length;
    }
    this.backend.write(buffer, 0, values);
  }

  #keep(buffer: DeviceBuffer): DeviceBuffer {
    this.#buffers.push(buffer);
    this.byteLength += buffer.size;
    return buffer;
  }
}

/** Uploads a checkpoint. @throws InputError naming the parameter that is missing or of the wrong shape or type. */
export async function loadWeights(backend: Backend, config: ModelConfig, checkpoint: ParameterBytes): Promise<Weights> {
  return Weights.load(
    backend,
    config,
    new CheckpointSource(unpackedBytes(declareDecoder(config).parameters, checkpoint)),
  );
}

/** Random weights of a model's shape (normal, spread 0.02): for measuring speed. */
export async function randomWeights(backend: Backend, config: ModelConfig, dtype: DType, seed = 1): Promise<Weights> {
  if (!["bfloat16", "float16", "float32"].includes(dtype)) throw new InputError(`random weights: ${dtype}`);
  return Weights.load(backend, config, new RandomSource(dtype, seed));
}
