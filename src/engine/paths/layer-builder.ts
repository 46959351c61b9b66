import type { ModelConfig } from "../../spec/models/config.js";
import type { BatchShape } from "../webgpu/batch-buffer.js";
import { type KernelName, kernel } from "../webgpu/kernels.js";
import type { KvStore } from "../webgpu/kv-store.js";
import type { Operand } from "../webgpu/pipelines.js";
import type { LayerWeights } from "../weights.js";
import type { Activations } from "./activations.js";
import type { Fusions } from "./fusions.js";
import { LayerValues } from "./layer-values.js";
import { type LinearContext, type LinearRequest, linearDispatches } from "./linear.js";
import type { Dispatch, Grid, Tap } from "./program.js";

/** What every layer of one kind of batch is built from. */
export interface LayerContext extends LinearContext {
  readonly config: ModelConfig;
  readonly buffers: Activations;
  readonly store: KvStore;
  readonly angles: GPUBuffer;
  /** AttentionParameters for packed q|k|v rows, and for dense q rows. */
  readonly packedLayout: (layer: number) => GPUBuffer;
  readonly denseLayout: (layer: number) => GPUBuffer;
  readonly mergeStates: GPUBuffer;
  readonly fusions: Fusions;
  /** Every sequence has one row. */
  readonly decode: boolean;
  /** The keys are split: states must be merged, by a kernel of its own or by the output projection. */
  readonly split: "no" | "merge" | "fused";
  /** With "fused": splits its kernel has room for; every one costs loads, present or not. */
  readonly mergedSplits: number;
  readonly capture: boolean;
}

/** One kernel launch as a layer asks for it. */
export interface Launch {
  readonly name: KernelName;
  readonly label: string;
  readonly constants: Record<string, number | boolean>;
  readonly operands: Record<string, Operand>;
  readonly grid: (shape: BatchShape) => Grid;
  readonly reads: readonly Tap[];
  readonly writes: readonly Tap[];
}

/** Collects the dispatches of decoder layer `index`. */
export class LayerBuilder {
  readonly dispatches: Dispatch[] = [];
  readonly values: LayerValues;

  constructor(
    readonly context: LayerContext,
    readonly index: number,
    readonly weights: LayerWeights,
  ) {
    this.values = new LayerValues(context.config, context.buffers, context.store, index);
  }

  async launch({ name, label, constants, operands, grid, reads, writes }: Launch): Promise<void> {
    const program = await kernel(this.context.gpu, name, constants);
    this.dispatches.push({ label, kernel: program, group: program.bind(operands), grid, reads, writes });
  }

  async linear(request: LinearRequest): Promise<void> {
    this.dispatches.push(...(await linearDispatches(this.context, request)));
  }

  /** RMSNorm of a hidden state into `normed`. */
  async norm(name: string, input: GPUBuffer, gain: GPUBuffer, from: Tap, to: Tap): Promise<void> {
    const { config, header, buffers } = this.context;
    await this.launch({
      name: "rmsnorm",
      label: name.endsWith("input_layernorm") ? "input_layernorm" : "post_attention_layernorm",
      constants: {
        WIDTH: config.hiddenSize,
        EPSILON: config.rmsNormEpsilon,
        THREADS: 128,
        INPUT_STRIDE: config.hiddenSize,
        OUTPUT_STRIDE: config.hiddenSize,
      },
      operands: { header, input, gain, output: buffers.normed },
      grid: (shape) => [1, shape.rows, 1],
      reads: [from],
      writes: [to],
    });
  }

  /** `first` + `projected`. */
  async add(first: GPUBuffer, firstTap: Tap, second: Tap, output: GPUBuffer, outputTap: Tap): Promise<void> {
    const { config, header, buffers } = this.context;
    const size = config.hiddenSize;
    await this.launch({
      name: "elementwise",
      label: "add",
      constants: { OPERATION: 2, COLUMNS: size, FIRST_STRIDE: size, SECOND_STRIDE: size },
      operands: { header, first, second: buffers.projected, output },
      grid: (shape) => [Math.ceil(size / 128), shape.rows, 1],
      reads: [firstTap, second],
      writes: [outputTap],
    });
  }
}
