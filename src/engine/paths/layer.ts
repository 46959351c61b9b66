import type { ModelConfig } from "../../spec/models/config.js";
import type { BatchShape } from "../webgpu/batch-buffer.js";
import { type KernelName, kernel } from "../webgpu/kernels.js";
import type { KvStore } from "../webgpu/kv-store.js";
import type { Operand } from "../webgpu/pipelines.js";
import type { LayerWeights } from "../weights.js";
import type { Activations } from "./activations.js";
import { type LinearContext, linearDispatches } from "./linear.js";
import type { DenseTap, Dispatch, Grid, PagedTap, Tap } from "./program.js";

/** What a path fuses. Everything off is the spec, op by op. */
export interface Fusions {
  /** RMSNorm and the q, k and v projections in one. */
  readonly projection: boolean;
  /** QK-norm, RoPE and the KV append in one. */
  readonly rotary: boolean;
  /** That one inside the decode attention kernel. */
  readonly prologue: boolean;
  /** The merge of split attention states inside the output projection. */
  readonly merge: boolean;
  /** Residual additions inside the projections before them. */
  readonly residual: boolean;
  /** RMSNorm, gate and up projections, SiLU and their product in one. */
  readonly gate: boolean;
}

export const noFusions: Fusions = {
  projection: false,
  rotary: false,
  prologue: false,
  merge: false,
  residual: false,
  gate: false,
};
export const allFusions: Fusions = {
  projection: true,
  rotary: true,
  prologue: true,
  merge: true,
  residual: true,
  gate: true,
};

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

/** Builds the dispatches of one decoder layer: `hidden` in, `hidden` out. */
export class LayerBuilder {
  readonly dispatches: Dispatch[] = [];
  readonly #path: string;
  readonly #queries: number;
  readonly #keys: number;

  constructor(
    readonly context: LayerContext,
    readonly layer: number,
    readonly weights: LayerWeights,
  ) {
    const { config } = context;
    this.#path = `model.layers.${layer}`;
    this.#queries = config.headCount * config.headDim;
    this.#keys = config.keyValueHeadCount * config.headDim;
  }

  async build(): Promise<Dispatch[]> {
    await this.#project();
    await this.#attend();
    await this.#feedForward();
    return this.dispatches;
  }

  get #stream(): Tap {
    const name = this.layer === 0 ? "model.embed_tokens" : `model.layers.${this.layer - 1}`;
    return this.#wide(name, this.context.buffers.hidden, this.context.config.hiddenSize);
  }

  async #project(): Promise<void> {
    const { buffers, fusions, config, mode } = this.context;
    const { weights } = this;
    const normName = `${this.#path}.input_layernorm`;
    const total = this.#queries + 2 * this.#keys;
    const fuse = fusions.projection && mode.columns > 0;
    const normed = this.#wide(normName, buffers.normed, config.hiddenSize);
    if (!fuse) await this.#norm(normName, buffers.hidden, weights.inputNorm, this.#stream, normed);
    const outputs = [this.#packed("q_proj", 0), this.#packed("k_proj", 1), this.#packed("v_proj", 2)];
    const shared = {
      matrix: weights.queryKeyValue,
      input: fuse ? buffers.hidden : buffers.normed,
      output: buffers.queryKeyValue,
      outputStride: total,
      bias: weights.queryKeyValueBias,
      reads: [fuse ? this.#stream : normed],
    };
    if (fusions.projection) {
      const norm = fuse ? { gain: weights.inputNorm, epsilon: config.rmsNormEpsilon } : undefined;
      await this.#linear({ ...shared, label: fuse ? "rmsnorm+qkv" : "qkv", norm, writes: outputs });
      return;
    }
    const parts = [
      ["q_proj", 0, this.#queries],
      ["k_proj", this.#queries, this.#keys],
      ["v_proj", this.#queries + this.#keys, this.#keys],
    ] as const;
    for (const [i, [label, firstRow, rowCount]] of parts.entries()) {
      await this.#linear({ ...shared, label, firstRow, rowCount, outputOffset: firstRow, writes: [outputs[i]!] });
    }
  }

  async #attend(): Promise<void> {
    const { context } = this;
    const { buffers, config, fusions, decode, store } = context;
    const prologue = fusions.prologue && decode;
    if (!prologue) {
      if (fusions.rotary) await this.#rotateAndAppend();
      else await this.#rotateStepwise();
    }
    // One split is already the result: states of shape [rows, heads, 1, head_dim] are dense.
    const dense = decode && context.split === "no" ? buffers.states : buffers.attention;
    const output = this.#wide(`${this.#path}.self_attn.o_proj.input`, dense, this.#queries);
    if (decode) await this.#decodeAttention(prologue, output);
    else {
      await this.#launch({
        name: "attention-prefill",
        label: "attention",
        constants: {
          PAGE_SIZE: store.options.pageSize,
          GROUP: config.headCount / config.keyValueHeadCount,
          HEAD_DIM: config.headDim,
          CACHE_FORMAT: store.format,
        },
        operands: {
          ...this.#attentionOperands(context.denseLayout(this.layer)),
          query: buffers.query,
          output: buffers.attention,
          lse: buffers.attentionLse,
        },
        grid: (shape) => [config.headCount, shape.tileCount, 1],
        reads: [this.#rotated("q_rope"), this.#pages("k_cache"), this.#pages("v_cache")],
        writes: [output],
      });
    }
    await this.#outputProjection(decode && context.split === "fused", output);
  }

  async #outputProjection(merge: boolean, attended: DenseTap): Promise<void> {
    const { buffers, config, fusions } = this.context;
    const { hiddenSize, headDim } = config;
    const projected = this.#wide(`${this.#path}.self_attn.o_proj`, buffers.projected, hiddenSize);
    const middle = this.#wide(`${this.#path}.post_attention_layernorm.input`, buffers.middle, hiddenSize);
    const shared = {
      matrix: this.weights.output,
      input: merge ? buffers.states : attended.buffer,
      merge: merge ? { lse: buffers.stateLse, headDim, mostSplits: this.context.mergedSplits } : undefined,
      outputStride: hiddenSize,
      bias: this.weights.outputBias,
      reads: merge ? [] : [attended],
    };
    if (fusions.residual) {
      await this.#linear({
        ...shared,
        label: merge ? "merge+o_proj+residual" : "o_proj+residual",
        output: buffers.middle,
        residual: buffers.hidden,
        reads: [...shared.reads, this.#stream],
        writes: [middle],
      });
    } else {
      await this.#linear({
        ...shared,
        label: merge ? "merge+o_proj" : "o_proj",
        output: buffers.projected,
        writes: [projected],
      });
      await this.#add(buffers.hidden, this.#stream, projected, buffers.middle, middle);
    }
  }

  async #feedForward(): Promise<void> {
    const { buffers, config, fusions, mode } = this.context;
    const { hiddenSize, intermediateSize } = config;
    const { weights } = this;
    const path = this.#path;
    const middle = this.#wide(`${path}.post_attention_layernorm.input`, buffers.middle, hiddenSize);
    const normName = `${path}.post_attention_layernorm`;
    const normed = this.#wide(normName, buffers.normed, hiddenSize);
    const product = this.#wide(`${path}.mlp.down_proj.input`, buffers.product, intermediateSize);
    const fuse = fusions.gate && mode.columns > 0;
    if (!fuse) await this.#norm(normName, buffers.middle, weights.postNorm, middle, normed);
    if (fusions.gate) {
      await this.#linear({
        label: fuse ? "rmsnorm+gate+up+silu" : "gate+up+silu",
        matrix: weights.gateUp,
        input: fuse ? buffers.middle : buffers.normed,
        output: buffers.product,
        outputStride: intermediateSize,
        bias: weights.gateUpBias,
        gated: true,
        norm: fuse ? { gain: weights.postNorm, epsilon: config.rmsNormEpsilon } : undefined,
        reads: [fuse ? middle : normed],
        writes: [product],
      });
    } else await this.#gateStepwise(normed, product);
    const down = this.#wide(`${path}.mlp.down_proj`, buffers.projected, hiddenSize);
    const output = this.#wide(path, buffers.hidden, hiddenSize);
    const shared = {
      matrix: weights.down,
      input: buffers.product,
      outputStride: hiddenSize,
      bias: weights.downBias,
    };
    if (fusions.residual) {
      await this.#linear({
        ...shared,
        label: "down_proj+residual",
        output: buffers.hidden,
        residual: buffers.middle,
        reads: [product, middle],
        writes: [output],
      });
    } else {
      await this.#linear({
        ...shared,
        label: "down_proj",
        output: buffers.projected,
        reads: [product],
        writes: [down],
      });
      await this.#add(buffers.middle, middle, down, buffers.hidden, output);
    }
  }

  async #gateStepwise(normed: Tap, product: Tap): Promise<void> {
    const { buffers, config } = this.context;
    const { weights } = this;
    const size = config.intermediateSize;
    const part = (name: string, offset: number): DenseTap => ({
      ...this.#wide(`${this.#path}.mlp.${name}`, buffers.gateUp, size),
      rowStride: 2 * size,
      offset,
    });
    for (const [label, first] of [
      ["gate_proj", 0],
      ["up_proj", size],
    ] as const) {
      await this.#linear({
        label,
        matrix: weights.gateUp,
        firstRow: first,
        rowCount: size,
        input: buffers.normed,
        output: buffers.gateUp,
        outputStride: 2 * size,
        outputOffset: first,
        bias: weights.gateUpBias,
        reads: [normed],
        writes: [part(label, first)],
      });
    }
    const act = this.#wide(`${this.#path}.mlp.act_fn`, buffers.activated, size);
    const grid = (shape: BatchShape): Grid => [Math.ceil(size / 128), shape.rows, 1];
    await this.#launch({
      name: "elementwise",
      label: "silu",
      constants: { OPERATION: 0, COLUMNS: size, FIRST_STRIDE: 2 * size },
      operands: { header: this.context.header, first: buffers.gateUp, output: buffers.activated },
      grid,
      reads: [part("gate_proj", 0)],
      writes: [act],
    });
    await this.#launch({
      name: "elementwise",
      label: "multiply",
      constants: {
        OPERATION: 1,
        COLUMNS: size,
        FIRST_STRIDE: size,
        SECOND_STRIDE: 2 * size,
        SECOND_OFFSET: size,
      },
      operands: {
        header: this.context.header,
        first: buffers.activated,
        second: buffers.gateUp,
        output: buffers.product,
      },
      grid,
      reads: [act, part("up_proj", size)],
      writes: [product],
    });
  }

  async #rotateAndAppend(): Promise<void> {
    const { context } = this;
    const { config, buffers, capture } = context;
    const heads = config.headCount + 2 * config.keyValueHeadCount;
    await this.#launch({
      name: "rope-append",
      label: "qk_norm+rope+append",
      constants: {
        ...this.#rotaryConstants(),
        HEADS: config.headCount,
        KV_HEADS: config.keyValueHeadCount,
        CAPTURE: capture,
      },
      operands: {
        ...this.#attentionOperands(context.packedLayout(this.layer)),
        packed: buffers.queryKeyValue,
        rotated: buffers.query,
        rotated_keys: buffers.key,
        ...this.#rotaryOperands(),
      },
      grid: (shape) => [heads, shape.rows, 1],
      reads: [this.#packed("q_proj", 0), this.#packed("k_proj", 1), this.#packed("v_proj", 2)],
      writes: [this.#rotated("q_rope"), this.#rotated("k_rope"), this.#pages("k_cache"), this.#pages("v_cache")],
    });
  }

  async #rotateStepwise(): Promise<void> {
    const { context } = this;
    const { config, buffers, header, batch } = context;
    const { headDim } = config;
    const total = this.#queries + 2 * this.#keys;
    const sides = [
      ["q", config.headCount, 0, buffers.queryNormed, buffers.query],
      ["k", config.keyValueHeadCount, this.#queries, buffers.keyNormed, buffers.key],
    ] as const;
    const normed = (side: "q" | "k") =>
      this.#heads(`${side}_norm`, side === "q" ? buffers.queryNormed : buffers.keyNormed, side);
    const raw = (side: "q" | "k") => this.#packed(`${side}_proj`, side === "q" ? 0 : 1);
    if (config.queryKeyNorm) {
      for (const [side, heads, offset, output] of sides) {
        await this.#launch({
          name: "rmsnorm",
          label: `${side}_norm`,
          constants: {
            WIDTH: headDim,
            EPSILON: config.rmsNormEpsilon,
            INPUT_STRIDE: total,
            INPUT_OFFSET: offset,
            OUTPUT_STRIDE: heads * headDim,
            GAIN_OFFSET: side === "q" ? 0 : headDim,
          },
          operands: { header, input: buffers.queryKeyValue, gain: this.weights.headGains!, output },
          grid: (shape) => [heads, shape.rows, 1],
          reads: [raw(side)],
          writes: [normed(side)],
        });
      }
    }
    for (const [side, heads, offset, from, output] of sides) {
      await this.#launch({
        name: "rope",
        label: `${side}_rope`,
        constants: {
          HEADS: heads,
          HEAD_DIM: headDim,
          ROTARY: headDim,
          INPUT_STRIDE: config.queryKeyNorm ? heads * headDim : total,
          INPUT_OFFSET: config.queryKeyNorm ? 0 : offset,
        },
        operands: {
          header,
          input: config.queryKeyNorm ? from : buffers.queryKeyValue,
          batch,
          angles: context.angles,
          output,
        },
        grid: (shape) => [Math.ceil((heads * headDim) / 64), shape.rows, 1],
        reads: [config.queryKeyNorm ? normed(side) : raw(side)],
        writes: [this.#rotated(`${side}_rope`)],
      });
    }
    for (const values of [false, true]) {
      const name = values ? "v_cache" : "k_cache";
      await this.#launch({
        name: "append",
        label: values ? "append v" : "append k",
        constants: {
          HEADS: config.keyValueHeadCount,
          HEAD_DIM: headDim,
          INPUT_STRIDE: values ? total : this.#keys,
          INPUT_OFFSET: values ? this.#queries + this.#keys : 0,
          CACHE_FORMAT: context.store.format,
          VALUES: values,
        },
        operands: {
          header,
          addressing: context.denseLayout(this.layer),
          input: values ? buffers.queryKeyValue : buffers.key,
          batch,
          cache: (values ? context.store.values : context.store.keys)[this.layer]!,
        },
        grid: (shape) => [Math.ceil(this.#keys / 8 / 64), shape.rows, 1],
        reads: [values ? this.#packed("v_proj", 2) : this.#rotated("k_rope")],
        writes: [this.#pages(name)],
      });
    }
  }

  async #decodeAttention(prologue: boolean, output: Tap): Promise<void> {
    const { context } = this;
    const { config, buffers, split, capture, store } = context;
    const caches = [this.#pages("k_cache"), this.#pages("v_cache")];
    const rotated = (name: "q_rope" | "k_rope"): DenseTap => ({
      ...this.#rotated(name),
      buffer: buffers.states,
      rowStride: this.#queries + this.#keys,
      offset: buffers.captureAt + (name === "q_rope" ? 0 : this.#queries),
    });
    await this.#launch({
      name: "attention-decode",
      label: prologue ? "qk_norm+rope+append+attention" : "attention",
      constants: {
        PAGE_SIZE: store.options.pageSize,
        GROUP: config.headCount / config.keyValueHeadCount,
        HEAD_DIM: config.headDim,
        CACHE_FORMAT: context.store.format,
        ...(prologue
          ? {
              ...this.#prologueConstants(),
              PROLOGUE: true,
              KEY_COLUMN: this.#queries,
              VALUE_COLUMN: this.#queries + this.#keys,
              CAPTURE_AT: capture ? buffers.captureAt : 0,
            }
          : {}),
      },
      operands: {
        ...this.#attentionOperands((prologue ? context.packedLayout : context.denseLayout)(this.layer)),
        query: prologue ? buffers.queryKeyValue : buffers.query,
        output: buffers.states,
        lse: buffers.stateLse,
        ...(prologue ? this.#rotaryOperands() : {}),
      },
      grid: (shape) => [shape.splitCount, config.keyValueHeadCount, shape.sequences],
      reads: prologue
        ? [this.#packed("q_proj", 0), this.#packed("k_proj", 1), this.#packed("v_proj", 2)]
        : [this.#rotated("q_rope"), ...caches],
      writes: [
        ...(prologue ? [rotated("q_rope"), rotated("k_rope"), ...caches] : []),
        ...(split === "no" ? [output] : []),
      ],
    });
    // A fused merge leaves the merged value nowhere; for a capture it is made besides.
    if (split === "no" || (split === "fused" && !capture)) return;
    await this.#launch({
      name: "attention-merge",
      label: "merge",
      constants: { HEAD_DIM: config.headDim },
      operands: {
        states: context.mergeStates,
        input: buffers.states,
        input_lse: buffers.stateLse,
        output: buffers.attention,
        lse: buffers.attentionLse,
      },
      grid: (shape) => [config.headCount, shape.rows, 1],
      reads: [],
      writes: [output],
    });
  }

  #rotaryConstants() {
    return {
      ...this.#prologueConstants(),
      HEAD_DIM: this.context.config.headDim,
      ROTARY: this.context.config.headDim,
      CACHE_FORMAT: this.context.store.format,
    };
  }

  #prologueConstants() {
    const { config } = this.context;
    return { QK_NORM: config.queryKeyNorm, EPSILON: config.rmsNormEpsilon };
  }

  #rotaryOperands(): Record<string, Operand> {
    const gains = this.weights.headGains;
    return { angles: this.context.angles, ...(gains ? { gains } : {}) };
  }

  #attentionOperands(addressing: GPUBuffer): Record<string, Operand> {
    const { header, batch, store } = this.context;
    return { header, addressing, batch, keys: store.keys[this.layer]!, values: store.values[this.layer]! };
  }

  async #norm(name: string, input: GPUBuffer, gain: GPUBuffer, from: Tap, to: Tap): Promise<void> {
    const { config, header, buffers } = this.context;
    await this.#launch({
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

  async #add(first: GPUBuffer, firstTap: Tap, second: Tap, output: GPUBuffer, outputTap: Tap): Promise<void> {
    const { config, header, buffers } = this.context;
    const size = config.hiddenSize;
    await this.#launch({
      name: "elementwise",
      label: "add",
      constants: { OPERATION: 2, COLUMNS: size, FIRST_STRIDE: size, SECOND_STRIDE: size },
      operands: { header, first, second: buffers.projected, output },
      grid: (shape) => [Math.ceil(size / 128), shape.rows, 1],
      reads: [firstTap, second],
      writes: [outputTap],
    });
  }

  async #linear(request: Parameters<typeof linearDispatches>[1]): Promise<void> {
    this.dispatches.push(...(await linearDispatches(this.context, request)));
  }

  async #launch(launch: {
    name: KernelName;
    label: string;
    constants: Record<string, number | boolean>;
    operands: Record<string, Operand>;
    grid: (shape: BatchShape) => Grid;
    reads: readonly Tap[];
    writes: readonly Tap[];
  }): Promise<void> {
    const program = await kernel(this.context.gpu, launch.name, launch.constants);
    const { label, grid, reads, writes } = launch;
    this.dispatches.push({ label, kernel: program, group: program.bind(launch.operands), grid, reads, writes });
  }

  /** A value [rows, columns] that fills its buffer's rows. */
  #wide(name: string, buffer: GPUBuffer, columns: number): DenseTap {
    return { kind: "dense", name, buffer, shape: [columns], rowStride: columns, offset: 0, per: "row" };
  }

  /** q_proj, k_proj or v_proj (part 0, 1, 2) within the packed q|k|v rows. */
  #packed(name: string, part: 0 | 1 | 2): DenseTap {
    const offset = part === 0 ? 0 : this.#queries + (part - 1) * this.#keys;
    return {
      kind: "dense",
      name: `${this.#path}.self_attn.${name}`,
      buffer: this.context.buffers.queryKeyValue,
      shape: [part === 0 ? this.#queries : this.#keys],
      rowStride: this.#queries + 2 * this.#keys,
      offset,
      per: "row",
    };
  }

  #heads(name: string, buffer: GPUBuffer, side: "q" | "k"): DenseTap {
    const { config } = this.context;
    const heads = side === "q" ? config.headCount : config.keyValueHeadCount;
    return {
      kind: "dense",
      name: `${this.#path}.self_attn.${name}`,
      buffer,
      shape: [heads, config.headDim],
      rowStride: heads * config.headDim,
      offset: 0,
      per: "row",
    };
  }

  #rotated(name: "q_rope" | "k_rope"): DenseTap {
    const { buffers } = this.context;
    return name === "q_rope" ? this.#heads(name, buffers.query, "q") : this.#heads(name, buffers.key, "k");
  }

  #pages(name: "k_cache" | "v_cache"): PagedTap {
    const { store } = this.context;
    const buffer = (name === "k_cache" ? store.keys : store.values)[this.layer]!;
    return { kind: "paged", name: `${this.#path}.self_attn.${name}`, buffer };
  }
}
