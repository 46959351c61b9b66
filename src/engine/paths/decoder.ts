import type { ModelConfig } from "../../spec/models/config.js";
import type { DType } from "../../tensor/dtype.js";
import { planSplits } from "../attention/plan.js";
import {
  type Batch,
  type DecodeOptions,
  type ForwardOptions,
  type ForwardResult,
  greedy,
  type Path,
  type Sampling,
} from "../path.js";
import { BatchBuffer, type BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { formatOf, kernel } from "../webgpu/kernels.js";
import { type KvLayout, KvStore } from "../webgpu/kv-store.js";
import { attentionParameters, mergeParameters } from "../webgpu/parameters.js";
import { BufferUsage, mapForReading } from "../webgpu/usage.js";
import type { Weights } from "../weights.js";
import { Activations, argmaxParts, fusedSplits, mostSplits } from "./activations.js";
import { type Fusions, LayerBuilder, type LayerContext } from "./layer.js";
import { linearDispatches, productMode } from "./linear.js";
import { type DenseTap, type Dispatch, encodeDispatches } from "./program.js";
import { encodeCaptured } from "./recorder.js";
import { validateBatch } from "./validate-batch.js";

export interface PathOptions {
  readonly pageCount: number;
  readonly pageSize: number;
  /** @default "NHD" */
  readonly layout?: KvLayout | undefined;
  /** @default "bfloat16" */
  readonly cacheDtype?: DType | undefined;
  /** Rows of the largest batch. @default 512 */
  readonly maxRows?: number | undefined;
  /** @default 64 */
  readonly maxSequences?: number | undefined;
  /** Longest position plus one; the model's own limit unless given. */
  readonly maxPositions?: number | undefined;
}

/** Keys up to which the splits that the output projection merges suffice. */
const fusedKeys = 1024;
/** Steps whose tokens the history can hold before they are read back. */
const historySteps = 64;

/** The kernels of one kind of batch, each bound to its operands once. */
interface Program {
  readonly body: readonly Dispatch[];
  readonly topP: Dispatch;
  readonly argmax: Dispatch;
  readonly select: Dispatch;
  readonly advance: Dispatch;
}

/** A decoder on WebGPU; `fusions` decides how many dispatches it is. */
export class DecoderPath implements Path {
  readonly pageCount: number;
  readonly pageSize: number;
  readonly maxRows: number;
  readonly maxSequences: number;
  readonly store: KvStore;
  readonly #batch: BatchBuffer;
  readonly #buffers: Activations;
  readonly #angles: GPUBuffer;
  readonly #sampling: GPUBuffer;
  readonly #history: GPUBuffer;
  readonly #mergeStates: GPUBuffer;
  readonly #layouts = new Map<string, GPUBuffer>();
  readonly #programs = new Map<string, Promise<Program>>();

  constructor(
    readonly name: string,
    readonly gpu: Gpu,
    readonly config: ModelConfig,
    readonly weights: Weights,
    readonly fusions: Fusions,
    options: PathOptions,
  ) {
    this.pageCount = options.pageCount;
    this.pageSize = options.pageSize;
    this.maxRows = options.maxRows ?? 512;
    this.maxSequences = Math.min(options.maxSequences ?? 64, this.maxRows);
    const positions = Math.min(options.maxPositions ?? config.maxPositions, options.pageCount * options.pageSize);
    this.store = new KvStore(gpu, {
      layers: config.layerCount,
      pageCount: options.pageCount,
      pageSize: options.pageSize,
      heads: config.keyValueHeadCount,
      headDim: config.headDim,
      layout: options.layout ?? "NHD",
      dtype: options.cacheDtype ?? "bfloat16",
    });
    this.#batch = new BatchBuffer(gpu, this.maxRows, this.maxSequences, 2 * options.pageCount + this.maxSequences);
    this.#buffers = new Activations(gpu, config, this.maxRows, this.maxSequences, gpu.features.has("matrix"));
    this.#angles = gpu.upload("angles", rotaryTable(config, positions));
    this.#sampling = gpu.buffer("sampling", this.maxSequences * 16);
    this.#history = gpu.buffer("history", historySteps * this.maxSequences * 8);
    this.#mergeStates = gpu.buffer("merge", mergeParameters.byteLength, BufferUsage.uniform);
  }

  async forward(batch: Batch, options: ForwardOptions = {}): Promise<ForwardResult> {
    const { gpu } = this;
    const lengths = validateBatch(batch, this);
    const { shape, program } = await this.#prepare(batch, Math.max(0, ...lengths), options.capture !== undefined);
    const topP = this.#writeSampling(options.sampling, shape.sequences);
    const encoder = gpu.device.createCommandEncoder();
    const tail = [...(topP ? [program.topP] : []), program.argmax, program.select];
    let finishCapture: (() => Promise<void>) | undefined;
    if (options.capture) {
      finishCapture = encodeCaptured(encoder, program.body, shape, {
        gpu,
        sink: options.capture,
        store: this.store,
        pages: [...new Set(batch.kvIndices)].sort((a, b) => a - b),
      });
      encodeDispatches(encoder, tail, shape);
    } else encodeDispatches(encoder, [...program.body, ...tail], shape);
    gpu.device.queue.submit([encoder.finish()]);
    await finishCapture?.();
    const history = new Uint32Array(await gpu.read(this.#history, 0, shape.sequences * 8));
    const logits = options.logits
      ? await gpu.readFloats(this.#buffers.logits, 0, shape.sequences * this.config.vocabularySize)
      : undefined;
    return { ...unpackTokens(history, shape.sequences), ...(logits ? { logits } : {}) };
  }

  async decode(batch: Batch, options: DecodeOptions): Promise<Int32Array[]> {
    const lengths = validateBatch(batch, this, options);
    const longest = Math.max(...lengths) + options.steps - 1;
    const { shape, program } = await this.#prepare(batch, longest, false, options.reserve);
    const topP = this.#writeSampling(options.sampling, shape.sequences);
    const steps = [...program.body, ...(topP ? [program.topP] : []), program.argmax, program.advance];
    return this.#fly(steps, shape, options);
  }

  /** Encodes steps ahead of their read-back: at most three reads are in flight. */
  async #fly(program: readonly Dispatch[], shape: BatchShape, options: DecodeOptions): Promise<Int32Array[]> {
    const { device } = this.gpu;
    const perRead = Math.min(options.stepsPerRead ?? 8, options.steps, historySteps / 4);
    const rowBytes = this.maxSequences * 8;
    const tokens: Int32Array[] = [];
    const pending: { staging: GPUBuffer; mapped: Promise<void>; count: number }[] = [];
    const idle: GPUBuffer[] = [];
    let encoded = 0;
    let stopped = false;
    const collect = async () => {
      const { staging, mapped, count } = pending.shift()!;
      await mapped;
      const words = new Uint32Array(staging.getMappedRange().slice(0));
      staging.unmap();
      idle.push(staging);
      for (let i = 0; i < count; i++) {
        const row = words.subarray((i * rowBytes) / 4);
        const { tokenIds, finite } = unpackTokens(row, shape.sequences);
        if (options.onTokens?.(tokens.length, tokenIds, finite) === false) stopped = true;
        tokens.push(tokenIds);
      }
    };
    while (encoded < options.steps && !stopped) {
      // The first reads are short, so that the GPU starts before the host has encoded a whole one.
      const count = Math.min(perRead, Math.max(1, encoded), options.steps - encoded);
      const staging =
        idle.pop() ??
        device.createBuffer({
          size: perRead * rowBytes,
          usage: BufferUsage.mapRead | BufferUsage.copyDestination,
        });
      const encoder = device.createCommandEncoder();
      encodeDispatches(encoder, Array<readonly Dispatch[]>(count).fill(program).flat(), shape);
      // The history is a ring: a read that passes its end is two copies.
      const first = encoded % historySteps;
      const head = Math.min(count, historySteps - first);
      encoder.copyBufferToBuffer(this.#history, first * rowBytes, staging, 0, head * rowBytes);
      if (count > head) {
        encoder.copyBufferToBuffer(this.#history, 0, staging, head * rowBytes, (count - head) * rowBytes);
      }
      device.queue.submit([encoder.finish()]);
      encoded += count;
      pending.push({ staging, mapped: staging.mapAsync(mapForReading), count });
      if (pending.length >= 3) await collect();
    }
    while (pending.length > 0) await collect();
    for (const staging of idle) staging.destroy();
    return tokens;
  }

  /** The dispatches of one decode step of `batch`, for measurements. */
  async decodeProgram(batch: Batch): Promise<{ shape: BatchShape; dispatches: readonly Dispatch[] }> {
    const lengths = validateBatch(batch, this);
    const { shape, program } = await this.#prepare(batch, Math.max(0, ...lengths), false);
    this.#writeSampling(undefined, shape.sequences);
    return { shape, dispatches: [...program.body, program.argmax, program.select] };
  }

  poisonPages(pages: readonly number[], word: number): void {
    this.store.fill(pages, word);
  }

  dispose(): void {
    this.store.destroy();
    this.#batch.destroy();
    this.#buffers.destroy();
    for (const buffer of [this.#angles, this.#sampling, this.#history, this.#mergeStates, ...this.#layouts.values()]) {
      buffer.destroy();
    }
  }

  async #prepare(batch: Batch, longest: number, capture: boolean, reserve?: DecodeOptions["reserve"]) {
    const { config, fusions } = this;
    const sequences = batch.seqIds.length;
    const fused = fusions.merge && longest <= fusedKeys && batch.tokenIds.length <= 16;
    const plan = planSplits(longest, sequences, config.keyValueHeadCount, fused ? fusedSplits : mostSplits);
    const shape = this.#batch.upload(batch, plan, reserve);
    this.gpu.write(
      this.#mergeStates,
      0,
      mergeParameters.pack({
        count: plan.splitCount,
        rowStride: config.headCount * plan.splitCount,
        headStride: plan.splitCount,
        stateStride: 1,
      }),
    );
    const mode = productMode(this.gpu, shape.rows);
    const split = plan.splitCount === 1 ? "no" : fused ? "fused" : "merge";
    // Few variants, so that a growing context seldom has to wait for a compilation.
    const mergedSplits = split === "fused" ? Math.ceil(plan.splitCount / 2) * 2 : 1;
    const key = JSON.stringify([mode, shape.decode, shape.decode && [split, mergedSplits], capture]);
    let program = this.#programs.get(key);
    if (!program) {
      program = this.#build({ mode, decode: shape.decode, split, mergedSplits, capture });
      this.#programs.set(key, program);
    }
    return { shape, program: await program };
  }

  async #build(
    variant: Pick<LayerContext, "mode" | "decode" | "split" | "mergedSplits" | "capture">,
  ): Promise<Program> {
    const { gpu, config, weights } = this;
    const buffers = this.#buffers;
    const { hiddenSize, vocabularySize } = config;
    const header = this.#batch.header;
    const batch = this.#batch.arrays;
    const context: LayerContext = {
      ...variant,
      gpu,
      config,
      header,
      batch,
      buffers,
      store: this.store,
      angles: this.#angles,
      packedLayout: (layer) => this.#layout(layer, true),
      denseLayout: (layer) => this.#layout(layer, false),
      mergeStates: this.#mergeStates,
      fusions: this.fusions,
      halves: buffers.halves,
    };
    const wide = (name: string, buffer: GPUBuffer): DenseTap => ({
      kind: "dense",
      name,
      buffer,
      shape: [hiddenSize],
      rowStride: hiddenSize,
      offset: 0,
      per: "row",
    });
    const body: Dispatch[] = [];
    const embedding = await kernel(gpu, "embedding", {
      K: hiddenSize,
      VOCABULARY: vocabularySize,
      WEIGHT_FORMAT: formatOf(weights.embedding.dtype, "embedding"),
    });
    body.push({
      label: "embedding",
      kernel: embedding,
      group: embedding.bind({ header, batch, weights: weights.embedding.buffer, output: buffers.hidden }),
      grid: (shape) => [Math.ceil(hiddenSize / 8 / 64), shape.rows, 1],
      reads: [],
      writes: [wide("model.embed_tokens", buffers.hidden)],
    });
    for (const [layer, layerWeights] of weights.layers.entries()) {
      body.push(...(await new LayerBuilder(context, layer, layerWeights).build()));
    }
    body.push(...(await this.#head(context, wide)));
    return { body, ...(await this.#samplers(header, batch)) };
  }

  async #head(context: LayerContext, wide: (name: string, buffer: GPUBuffer) => DenseTap): Promise<Dispatch[]> {
    const { config, weights, gpu } = this;
    const buffers = this.#buffers;
    const { hiddenSize, vocabularySize } = config;
    const stream = wide(
      config.layerCount === 0 ? "model.embed_tokens" : `model.layers.${config.layerCount - 1}`,
      buffers.hidden,
    );
    const normed = wide("model.norm", buffers.normed);
    const dispatches: Dispatch[] = [];
    if (!this.fusions.projection) {
      const norm = await kernel(gpu, "rmsnorm", {
        WIDTH: hiddenSize,
        EPSILON: config.rmsNormEpsilon,
        THREADS: 128,
        INPUT_STRIDE: hiddenSize,
        OUTPUT_STRIDE: hiddenSize,
      });
      dispatches.push({
        label: "norm",
        kernel: norm,
        group: norm.bind({ header: context.header, input: buffers.hidden, gain: weights.norm, output: buffers.normed }),
        grid: (shape) => [1, shape.rows, 1],
        reads: [stream],
        writes: [normed],
      });
    }
    const logits: DenseTap = {
      kind: "dense",
      name: "lm_head",
      buffer: buffers.logits,
      shape: [vocabularySize],
      rowStride: vocabularySize,
      offset: 0,
      per: "sequence",
    };
    const fused = this.fusions.projection;
    dispatches.push(
      ...(await linearDispatches(context, {
        label: fused ? "rmsnorm+lm_head" : "lm_head",
        matrix: weights.head,
        input: fused ? buffers.hidden : buffers.normed,
        output: buffers.logits,
        outputStride: vocabularySize,
        lastRows: true,
        norm: fused ? { gain: weights.norm, epsilon: config.rmsNormEpsilon } : undefined,
        reads: [fused ? stream : normed],
        writes: [logits],
      })),
    );
    return dispatches;
  }

  async #samplers(header: GPUBuffer, batch: GPUBuffer): Promise<Omit<Program, "body">> {
    const { gpu } = this;
    const { logits, parts } = this.#buffers;
    const sampling = this.#sampling;
    const history = this.#history;
    const constants = { VOCABULARY: this.config.vocabularySize };
    const topP = await kernel(gpu, "top-p", constants);
    // A small vocabulary has no work for many workgroups.
    const count = Math.min(argmaxParts, Math.ceil(this.config.vocabularySize / 1024));
    const argmax = await kernel(gpu, "argmax", { ...constants, PARTS: count });
    const selection = { PARTS: count, HISTORY_WIDTH: this.maxSequences, HISTORY_STEPS: historySteps };
    const select = await kernel(gpu, "select-token", { ...selection, ADVANCE: false });
    const advance = await kernel(gpu, "select-token", { ...selection, ADVANCE: true });
    const none = { reads: [], writes: [] };
    const perSequence = (shape: BatchShape) => [shape.sequences, 1, 1] as const;
    const chosen = { header, parts, batch, history };
    return {
      topP: {
        label: "top_p",
        kernel: topP,
        group: topP.bind({ header, logits, sampling }),
        grid: perSequence,
        ...none,
      },
      argmax: {
        label: "argmax",
        kernel: argmax,
        group: argmax.bind({ header, logits, sampling, batch, parts }),
        grid: (shape) => [count, shape.sequences, 1],
        ...none,
      },
      select: { label: "select", kernel: select, group: select.bind(chosen), grid: perSequence, ...none },
      advance: { label: "select+advance", kernel: advance, group: advance.bind(chosen), grid: perSequence, ...none },
    };
  }

  /** Writes what each sequence asks of the sampler; returns whether any asks for top-p. */
  #writeSampling(sampling: readonly Sampling[] | undefined, sequences: number): boolean {
    if (sampling && sampling.length !== sequences) {
      throw new RangeError(`sampling: expected ${sequences} entries, one per sequence, found ${sampling.length}`);
    }
    const view = new DataView(new ArrayBuffer(sequences * 16));
    for (let b = 0; b < sequences; b++) {
      const { temperature, topP, seed } = sampling?.[b] ?? greedy;
      if (!(temperature >= 0) || !(topP > 0 && topP <= 1)) {
        throw new RangeError(`sampling: temperature ${temperature} and top-p ${topP} are out of range`);
      }
      view.setFloat32(b * 16, temperature, true);
      view.setFloat32(b * 16 + 4, topP, true);
      view.setUint32(b * 16 + 8, seed >>> 0, true);
    }
    this.gpu.write(this.#sampling, 0, new Uint8Array(view.buffer));
    return sampling?.some(({ temperature, topP }) => temperature > 0 && topP < 1) ?? false;
  }

  #layout(layer: number, packed: boolean): GPUBuffer {
    const { config } = this;
    const window = config.windowLeft(layer) ?? -1;
    const key = `${packed} ${window}`;
    let buffer = this.#layouts.get(key);
    if (!buffer) {
      const [page, slot, head] = this.store.strides;
      const queries = config.headCount * config.headDim;
      const columns = packed ? queries + 2 * config.keyValueHeadCount * config.headDim : queries;
      buffer = this.gpu.upload(
        "attention layout",
        attentionParameters.pack({
          scale: 1 / Math.sqrt(config.headDim),
          softCap: 0,
          windowLeft: window,
          causal: 1,
          queryRowStride: columns,
          queryHeadStride: config.headDim,
          queryOffset: 0,
          keyPageStride: page,
          keySlotStride: slot,
          keyHeadStride: head,
          keyOffset: 0,
          valuePageStride: page,
          valueSlotStride: slot,
          valueHeadStride: head,
          valueOffset: 0,
        }),
        BufferUsage.uniform,
      );
      this.#layouts.set(key, buffer);
    }
    return buffer;
  }
}

/** cos and sin per (position, pair), computed in float64 and rounded once: [positions, headDim / 2] pairs. */
export function rotaryTable(config: ModelConfig, positions: number): Float32Array<ArrayBuffer> {
  const half = config.headDim / 2;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = position * config.inverseFrequencies[pair]!;
      table[(position * half + pair) * 2] = Math.cos(angle) * config.ropeAttentionFactor;
      table[(position * half + pair) * 2 + 1] = Math.sin(angle) * config.ropeAttentionFactor;
    }
  }
  return table;
}

function unpackTokens(words: Uint32Array, sequences: number): { tokenIds: Int32Array; finite: boolean[] } {
  return {
    tokenIds: Int32Array.from({ length: sequences }, (_, b) => words[2 * b]!),
    finite: Array.from({ length: sequences }, (_, b) => words[2 * b + 1] === 0),
  };
}
