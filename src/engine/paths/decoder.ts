import type { ModelConfig } from "../../spec/models/config.js";
import type { DType } from "../../tensor/dtype.js";
import { planSplits } from "../attention/plan.js";
import type { Batch, DecodeOptions, ForwardOptions, ForwardResult, Path } from "../path.js";
import { BatchBuffer, type BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { type KvLayout, KvStore } from "../webgpu/kv-store.js";
import { mergeParameters } from "../webgpu/parameters.js";
import { BufferUsage } from "../webgpu/usage.js";
import type { Weights } from "../weights.js";
import { Activations, fusedSplits, mostSplits } from "./activations.js";
import { AttentionLayouts } from "./attention-layouts.js";
import { decodeAhead } from "./decode-ahead.js";
import { forwardDispatches } from "./forward-dispatches.js";
import type { Fusions } from "./fusions.js";
import { GpuSampler, type SamplerDispatches, unpackTokens } from "./gpu-sampler.js";
import type { LayerContext } from "./layer-builder.js";
import { productMode } from "./linear.js";
import { type Dispatch, encodeDispatches } from "./program.js";
import { encodeCaptured } from "./recorder.js";
import { rotaryTable } from "./rotary-table.js";
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

/** The kernels of one kind of batch, each bound to its operands once. */
interface Program extends SamplerDispatches {
  readonly body: readonly Dispatch[];
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
  readonly #sampler: GpuSampler;
  readonly #mergeStates: GPUBuffer;
  readonly #layouts: AttentionLayouts;
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
    this.#sampler = new GpuSampler(gpu, this.#buffers, config.vocabularySize, this.maxSequences);
    this.#layouts = new AttentionLayouts(gpu, config, this.store);
    this.#mergeStates = gpu.buffer("merge", mergeParameters.byteLength, BufferUsage.uniform);
  }

  async forward(batch: Batch, options: ForwardOptions = {}): Promise<ForwardResult> {
    const { gpu } = this;
    const lengths = validateBatch(batch, this);
    const { shape, program } = await this.#prepare(batch, Math.max(0, ...lengths), options.capture !== undefined);
    const topP = this.#sampler.write(options.sampling, shape.sequences);
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
    const history = new Uint32Array(await gpu.read(this.#sampler.history, 0, shape.sequences * 8));
    const logits = options.logits
      ? await gpu.readFloats(this.#buffers.logits, 0, shape.sequences * this.config.vocabularySize)
      : undefined;
    return { ...unpackTokens(history, shape.sequences), ...(logits ? { logits } : {}) };
  }

  async decode(batch: Batch, options: DecodeOptions): Promise<Int32Array[]> {
    const lengths = validateBatch(batch, this, options);
    const longest = Math.max(...lengths) + options.steps - 1;
    const { shape, program } = await this.#prepare(batch, longest, false, options.reserve);
    const topP = this.#sampler.write(options.sampling, shape.sequences);
    const steps = [...program.body, ...(topP ? [program.topP] : []), program.argmax, program.advance];
    return decodeAhead(this.#sampler, steps, shape, options);
  }

  /** The dispatches of one decode step of `batch`, for measurements. */
  async decodeProgram(batch: Batch): Promise<{ shape: BatchShape; dispatches: readonly Dispatch[] }> {
    const lengths = validateBatch(batch, this);
    const { shape, program } = await this.#prepare(batch, Math.max(0, ...lengths), false);
    this.#sampler.write(undefined, shape.sequences);
    return { shape, dispatches: [...program.body, program.argmax, program.select] };
  }

  poisonPages(pages: readonly number[], word: number): void {
    this.store.fill(pages, word);
  }

  dispose(): void {
    this.store.destroy();
    this.#batch.destroy();
    this.#buffers.destroy();
    this.#sampler.destroy();
    this.#layouts.destroy();
    this.#angles.destroy();
    this.#mergeStates.destroy();
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
    const { gpu, config, fusions, store } = this;
    const buffers = this.#buffers;
    const { header, arrays: batch } = this.#batch;
    const context: LayerContext = {
      ...variant,
      gpu,
      config,
      header,
      batch,
      buffers,
      store,
      angles: this.#angles,
      packedLayout: (layer) => this.#layouts.of(layer, true),
      denseLayout: (layer) => this.#layouts.of(layer, false),
      mergeStates: this.#mergeStates,
      fusions,
      halves: buffers.halves,
    };
    const body = await forwardDispatches(context, this.weights);
    return { body, ...(await this.#sampler.dispatches(header, batch)) };
  }
}
