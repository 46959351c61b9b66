import { BatchBuffer, type BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { formatOf, kernel } from "../webgpu/kernels.js";
import type { KvLayout } from "../webgpu/kv-store.js";
import { attentionParameters } from "../webgpu/parameters.js";
import type { Kernel, Operand } from "../webgpu/pipelines.js";
import { BufferUsage } from "../webgpu/usage.js";
import { type AttentionPlan, requirePlan } from "./attention-plan.js";
import { mergeLayout, submit } from "./launch.js";
import { planSplits } from "./plan.js";
import { type CacheView, requireTensor, stridesOf, type Tensor } from "./tensor.js";

export interface AttentionOutput {
  readonly output: GPUBuffer;
  readonly lse: GPUBuffer;
  readonly rows: number;
}

export interface Planned {
  readonly plan: AttentionPlan;
  readonly batch: BatchBuffer;
  readonly shape: BatchShape;
  readonly causal: boolean;
  readonly indices: Int32Array;
  readonly pageSize: number;
  readonly paged: boolean;
  /** Keys the ragged K and V must hold. */
  readonly keys: number;
}

/** What the three wrappers share: a planned batch and the launch of kernels over it. */
export class BatchAttention {
  #planned: Planned | undefined;

  constructor(
    readonly gpu: Gpu,
    readonly layout: KvLayout = "NHD",
  ) {
    if (layout !== "NHD" && layout !== "HND") throw new RangeError(`kv_layout: "${layout}" is neither NHD nor HND`);
  }

  protected planBatch(
    plan: AttentionPlan,
    arrays: {
      qoIndptr: Int32Array;
      indptr: Int32Array;
      indices: Int32Array;
      lastPageLen: Int32Array;
      pageSize: number;
    },
    options: { causal: boolean; paged: boolean; decode: boolean; lengths: Int32Array },
  ): void {
    requirePlan(plan);
    const { qoIndptr, indptr, indices, lastPageLen, pageSize } = arrays;
    const sequences = qoIndptr.length - 1;
    const rows = qoIndptr[sequences]!;
    this.#planned?.batch.destroy();
    const batch = new BatchBuffer(this.gpu, Math.max(rows, 1), Math.max(sequences, 1), Math.max(indices.length, 1));
    const splits = options.decode
      ? planSplits(Math.max(0, ...options.lengths), sequences, plan.kvHeads, 64)
      : { splitTokens: 1, splitCount: 1 };
    const shape = batch.upload(
      {
        seqIds: [...qoIndptr.keys()].slice(0, sequences),
        tokenIds: new Int32Array(rows),
        positions: new Int32Array(rows),
        slotMapping: new Int32Array(rows),
        qoIndptr,
        kvIndptr: indptr,
        kvIndices: indices,
        kvLastPageLen: lastPageLen,
        pageSize,
      },
      splits,
    );
    this.#planned = {
      plan,
      batch,
      shape: { ...shape, decode: options.decode },
      causal: options.causal,
      indices,
      pageSize,
      paged: options.paged,
      keys: indptr[sequences]!,
    };
  }

  protected get planned(): Planned {
    if (!this.#planned) throw new Error("run() before plan()");
    return this.#planned;
  }

  protected async launch(query: Tensor, cache: CacheView): Promise<AttentionOutput> {
    const { gpu } = this;
    const { plan, batch, shape, paged, pageSize } = this.planned;
    const { heads, kvHeads, headDim } = plan;
    requireTensor("q", query, [shape.rows, heads, headDim]);
    if (query.dtype !== (plan.queryDtype ?? "float32")) {
      throw new RangeError(`q: the plan says ${plan.queryDtype ?? "float32"}, the query is ${query.dtype}`);
    }
    const output = gpu.buffer("attention output", shape.rows * heads * headDim * 4);
    const lse = gpu.buffer("attention lse", shape.rows * heads * 4);
    if (shape.rows === 0) return { output, lse, rows: 0 };
    const constants = {
      GROUP: heads / kvHeads,
      HEAD_DIM: headDim,
      QUERY_FORMAT: formatOf(query.dtype, "q"),
      CACHE_FORMAT: formatOf(cache.keys.dtype, "paged K"),
      PAGED: paged,
      PAGE_SIZE: paged ? pageSize : 1,
    };
    const addressing = this.#addressing(query, cache);
    const operands: Record<string, Operand> = {
      header: batch.header,
      addressing,
      batch: batch.arrays,
      query: query.buffer,
      keys: cache.keys.buffer,
      values: cache.values.buffer,
    };
    const launches: [Kernel, GPUBindGroup, readonly [number, number, number]][] = [];
    const temporary: GPUBuffer[] = [addressing];
    if (shape.decode) {
      const states = gpu.buffer("states", shape.rows * heads * shape.splitCount * headDim * 4);
      const stateLse = gpu.buffer("state lse", shape.rows * heads * shape.splitCount * 4);
      const merge = await kernel(gpu, "attention-merge", { HEAD_DIM: headDim });
      const layout = mergeLayout(gpu, {
        count: shape.splitCount,
        rowStride: heads * shape.splitCount,
        headStride: shape.splitCount,
        stateStride: 1,
      });
      temporary.push(states, stateLse, layout);
      const decode = await kernel(gpu, "attention-decode", constants);
      launches.push(
        [
          decode,
          decode.bind({ ...operands, output: states, lse: stateLse }),
          [shape.splitCount, kvHeads, shape.sequences],
        ],
        [
          merge,
          merge.bind({ states: layout, input: states, input_lse: stateLse, output, lse }),
          [heads, shape.rows, 1],
        ],
      );
    } else {
      const prefill = await kernel(gpu, "attention-prefill", constants);
      launches.push([prefill, prefill.bind({ ...operands, output, lse }), [heads, shape.tileCount, 1]]);
    }
    submit(gpu, launches);
    for (const buffer of temporary) buffer.destroy();
    return { output, lse, rows: shape.rows };
  }

  #addressing(query: Tensor, cache: CacheView): GPUBuffer {
    const { plan, causal } = this.planned;
    const [rowStride, headStride] = stridesOf(query) as [number, number];
    const [keyPage, keySlot, keyHead] = cache.keyStrides;
    const [valuePage, valueSlot, valueHead] = cache.valueStrides;
    return this.gpu.upload(
      "addressing",
      attentionParameters.pack({
        scale: plan.scale ?? 1 / Math.sqrt(plan.headDim),
        softCap: plan.softCap ?? 0,
        windowLeft: plan.windowLeft ?? -1,
        causal: causal ? 1 : 0,
        queryRowStride: rowStride,
        queryHeadStride: headStride,
        queryOffset: query.offset ?? 0,
        keyPageStride: keyPage,
        keySlotStride: keySlot,
        keyHeadStride: keyHead,
        keyOffset: cache.keys.offset ?? 0,
        valuePageStride: valuePage,
        valueSlotStride: valueSlot,
        valueHeadStride: valueHead,
        valueOffset: cache.values.offset ?? 0,
      }),
      BufferUsage.uniform,
    );
  }

  destroy(): void {
    this.#planned?.batch.destroy();
    this.#planned = undefined;
  }
}
