import type { ModelConfig } from "../spec/models/config.js";
import { outputWeight } from "../spec/models/decoder.js";
import type { Checkpoint } from "../tensor/checkpoint.js";
import { byteWidth, type DType, decode, encode } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import type { Gpu } from "./webgpu/device.js";
import { formatOf, kernel } from "./webgpu/kernels.js";

/** A weight matrix [rows, columns] on the GPU, row-major without padding. */
export interface Matrix {
  readonly buffer: GPUBuffer;
  readonly rows: number;
  readonly columns: number;
  readonly dtype: DType;
}

export interface LayerWeights {
  readonly inputNorm: GPUBuffer;
  /** q rows, then k rows, then v rows. */
  readonly queryKeyValue: Matrix;
  readonly queryKeyValueBias: GPUBuffer | undefined;
  /** QK-norm gains: head_dim of q, then of k. */
  readonly headGains: GPUBuffer | undefined;
  readonly output: Matrix;
  readonly outputBias: GPUBuffer | undefined;
  readonly postNorm: GPUBuffer;
  /** gate rows, then up rows. */
  readonly gateUp: Matrix;
  readonly gateUpBias: GPUBuffer | undefined;
  readonly down: Matrix;
  readonly downBias: GPUBuffer | undefined;
}

/** The model's parameters as the kernels read them: matrices in the checkpoint's own type, vectors in float32. */
export interface Weights {
  readonly embedding: Matrix;
  readonly layers: readonly LayerWeights[];
  readonly norm: GPUBuffer;
  /** The embedding itself when tied. */
  readonly head: Matrix;
  readonly byteLength: number;
  destroy(): void;
}

/** Where parameters come from: names and shapes are the checkpoint's. */
interface Source {
  matrix(label: string, names: readonly string[], rows: number, columns: number): Promise<Matrix>;
  vector(label: string, names: readonly string[], length: number): GPUBuffer;
}

/** Where a checkpoint's bytes come from: a folder, or a server in a browser. */
export type ParameterBytes = Pick<Checkpoint, "directory" | "entry" | "bytes">;

/** Uploads a checkpoint. @throws InputError naming the parameter that is missing or of the wrong shape or type. */
export function loadWeights(gpu: Gpu, config: ModelConfig, checkpoint: ParameterBytes): Promise<Weights> {
  return assemble(config, new CheckpointSource(gpu, checkpoint));
}

/** Random weights of a model's shape (normal, spread 0.02), made on the GPU: for measuring speed. */
export function randomWeights(gpu: Gpu, config: ModelConfig, dtype: DType, seed = 1): Promise<Weights> {
  return assemble(config, new RandomSource(gpu, dtype, seed));
}

async function assemble(config: ModelConfig, source: Source & { byteLength: number; buffers: GPUBuffer[] }) {
  requireShapes(config);
  const { hiddenSize, intermediateSize, headDim } = config;
  const queries = config.headCount * headDim;
  const keys = config.keyValueHeadCount * headDim;
  const embedding = await source.matrix("embedding", ["model.embed_tokens.weight"], config.vocabularySize, hiddenSize);
  const head = config.tiedEmbeddings
    ? embedding
    : await source.matrix("lm_head", [outputWeight(config)], config.vocabularySize, hiddenSize);
  const layers: LayerWeights[] = [];
  for (let layer = 0; layer < config.layerCount; layer++) {
    const path = `model.layers.${layer}`;
    const names = (kind: string, parts: readonly string[]) => parts.map((part) => `${path}.${part}.${kind}`);
    const matrix = (parts: readonly string[], rows: number, columns: number) =>
      source.matrix(`${path} ${parts.join(" ")}`, names("weight", parts), rows, columns);
    const vector = (kind: string, parts: readonly string[], length: number) =>
      source.vector(`${path} ${parts.join(" ")} ${kind}`, names(kind, parts), length);
    const qkv = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
    const gateUp = ["mlp.gate_proj", "mlp.up_proj"];
    layers.push({
      inputNorm: vector("weight", ["input_layernorm"], hiddenSize),
      queryKeyValue: await matrix(qkv, queries + 2 * keys, hiddenSize),
      queryKeyValueBias: config.queryKeyValueBias ? vector("bias", qkv, queries + 2 * keys) : undefined,
      headGains: config.queryKeyNorm
        ? vector("weight", ["self_attn.q_norm", "self_attn.k_norm"], 2 * headDim)
        : undefined,
      output: await matrix(["self_attn.o_proj"], hiddenSize, queries),
      outputBias: config.outputBias ? vector("bias", ["self_attn.o_proj"], hiddenSize) : undefined,
      postNorm: vector("weight", ["post_attention_layernorm"], hiddenSize),
      gateUp: await matrix(gateUp, 2 * intermediateSize, hiddenSize),
      gateUpBias: config.mlpBias ? vector("bias", gateUp, 2 * intermediateSize) : undefined,
      down: await matrix(["mlp.down_proj"], hiddenSize, intermediateSize),
      downBias: config.mlpBias ? vector("bias", ["mlp.down_proj"], hiddenSize) : undefined,
    });
  }
  const norm = source.vector("model.norm", ["model.norm.weight"], hiddenSize);
  return {
    embedding,
    head,
    layers,
    norm,
    byteLength: source.byteLength,
    destroy() {
      for (const buffer of source.buffers) buffer.destroy();
    },
  };
}

/** Kernels load eight channels at a time and rotate eight pairs. @throws InputError when a width does not allow it. */
function requireShapes(config: ModelConfig): void {
  const widths = { hidden_size: config.hiddenSize, intermediate_size: config.intermediateSize };
  for (const [name, width] of Object.entries(widths)) {
    if (width % 8 !== 0) throw new InputError(`the GPU paths need ${name} to be a multiple of 8, found ${width}`);
  }
  if (config.headDim % 8 !== 0 || config.headDim > 256) {
    throw new InputError(`the GPU paths need head_dim to be a multiple of 8 up to 256, found ${config.headDim}`);
  }
  const group = config.headCount / config.keyValueHeadCount;
  if (group > 16) throw new InputError(`the GPU paths need at most 16 query heads per KV head, found ${group}`);
  if (config.activation !== "silu") {
    throw new InputError(`the GPU paths have the activation silu, the model asks for ${config.activation}`);
  }
}

class CheckpointSource implements Source {
  byteLength = 0;
  readonly buffers: GPUBuffer[] = [];

  constructor(
    readonly gpu: Gpu,
    readonly checkpoint: ParameterBytes,
  ) {}

  async matrix(label: string, names: readonly string[], rows: number, columns: number): Promise<Matrix> {
    const entries = names.map((name) => this.#entry(name, columns));
    const total = entries.reduce((sum, entry) => sum + entry.shape[0]!, 0);
    if (total !== rows) throw new InputError(`${names.join(", ")}: expected ${rows} rows together, found ${total}`);
    const types = new Set(entries.map((entry) => entry.dtype));
    const [first] = types;
    // Projections stored in different types are joined in the widest one kernels read.
    const dtype = types.size === 1 ? first! : "float32";
    formatOf(dtype, names[0]!);
    const buffer = this.#keep(this.gpu.buffer(label, rows * columns * byteWidth(dtype)));
    let at = 0;
    for (const { name, shape, dtype: stored } of entries) {
      // A few megabytes at a time: a large embedding never lies in memory whole.
      const step = Math.max(1, Math.floor(2 ** 24 / (columns * byteWidth(stored))));
      for (let row = 0; row < shape[0]!; row += step) {
        const raw = this.checkpoint.bytes(name, row, Math.min(step, shape[0]! - row)) as Uint8Array<ArrayBuffer>;
        const bytes = stored === dtype ? raw : (encode(decode(raw, stored), dtype) as Uint8Array<ArrayBuffer>);
        this.gpu.write(buffer, at, bytes);
        at += bytes.byteLength;
      }
    }
    return { buffer, rows, columns, dtype };
  }

  vector(label: string, names: readonly string[], length: number): GPUBuffer {
    const values = new Float32Array(length);
    let at = 0;
    for (const name of names) {
      const entry = this.checkpoint.entry(name);
      if (!entry) throw new InputError(`${this.checkpoint.directory}: the checkpoint has no parameter "${name}"`);
      const part = decode(this.checkpoint.bytes(name), entry.dtype);
      if (at + part.length > length) break;
      values.set(part, at);
      at += part.length;
    }
    if (at !== length) throw new InputError(`${names.join(", ")}: expected ${length} elements together, found ${at}`);
    return this.#keep(this.gpu.upload(label, values));
  }

  #entry(name: string, columns: number) {
    const entry = this.checkpoint.entry(name);
    if (!entry) throw new InputError(`${this.checkpoint.directory}: the checkpoint has no parameter "${name}"`);
    if (entry.shape.length !== 2 || entry.shape[1] !== columns) {
      throw new InputError(`${name}: expected ${columns} columns, found shape ${JSON.stringify(entry.shape)}`);
    }
    return entry;
  }

  #keep(buffer: GPUBuffer): GPUBuffer {
    this.buffers.push(buffer);
    this.byteLength += buffer.size;
    return buffer;
  }
}

class RandomSource implements Source {
  byteLength = 0;
  readonly buffers: GPUBuffer[] = [];
  #next: number;

  constructor(
    readonly gpu: Gpu,
    readonly dtype: DType,
    seed: number,
  ) {
    this.#next = seed;
  }

  async matrix(label: string, _names: readonly string[], rows: number, columns: number): Promise<Matrix> {
    const buffer = this.gpu.buffer(label, rows * columns * byteWidth(this.dtype));
    const fill = await kernel(this.gpu, "fill-random", {
      FORMAT: formatOf(this.dtype, "random weights"),
      WORDS: buffer.size / 4,
      SEED: this.#next++,
      SPREAD: 0.02,
    });
    const encoder = this.gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(fill.pipeline);
    pass.setBindGroup(0, fill.bind({ output: buffer }));
    const groups = Math.ceil(buffer.size / 4 / 256);
    pass.dispatchWorkgroups(Math.min(groups, 32768), Math.ceil(groups / 32768));
    pass.end();
    this.gpu.device.queue.submit([encoder.finish()]);
    return { buffer: this.#keep(buffer), rows, columns, dtype: this.dtype };
  }

  vector(label: string, _names: readonly string[], length: number): GPUBuffer {
    return this.#keep(this.gpu.upload(label, new Float32Array(length).fill(1)));
  }

  #keep(buffer: GPUBuffer): GPUBuffer {
    this.buffers.push(buffer);
    this.byteLength += buffer.size;
    return buffer;
  }
}
