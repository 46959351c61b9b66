import type { DType } from "../../tensor/dtype.js";
import { BatchBuffer, type BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { formatOf, kernel } from "../webgpu/kernels.js";
import type { KvLayout } from "../webgpu/kv-store.js";
import { attentionParameters, mergeParameters } from "../webgpu/parameters.js";
import type { Kernel, Operand } from "../webgpu/pipelines.js";
import { BufferUsage } from "../webgpu/usage.js";
import { planSplits } from "./plan.js";
import { type CacheView, cacheView, type PagedCache, requireTensor, stridesOf, type Tensor } from "./tensor.js";
import { validateIndptr, validatePageTable } from "./validate.js";

/**
 * FlashInfer's batch attention on WebGPU: plan once per batch, run once per layer. Outputs are float32: `output`
 * [rows, heads, head_dim] and the base-2 log-sum-exp `lse` [rows, heads]; without visible keys they are 0 and -infinity.
 */

export interface AttentionPlan {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** @default "float32" */
  readonly queryDtype?: DType;
  /** @default "bfloat16" */
  readonly kvDtype?: DType;
  /** sm_scale. @default 1/sqrt(headDim) */
  readonly scale?: number;
  /** logits_soft_cap; 0 for none. @default 0 */
  readonly softCap?: number;
  /** -1 for none. @default -1 */
  readonly windowLeft?: number;
}

export interface PagedPlan extends AttentionPlan {
  /** kv_indptr [batch + 1], kv_indices [kv_indptr[batch]], kv_last_page_len [batch]. */
  readonly indptr: Int32Array;
  readonly indices: Int32Array;
  readonly lastPageLen: Int32Array;
  readonly pageSize: number;
}

export interface AttentionOutput {
  readonly output: GPUBuffer;
  readonly lse: GPUBuffer;
  readonly rows: number;
}

interface Planned {
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
class BatchAttention {
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

/** One query row per sequence over paged K and V. FlashInfer's BatchDecodeWithPagedKVCacheWrapper. */
export class BatchDecodeWithPagedKVCache extends BatchAttention {
  /** @throws RangeError when an array has the wrong type, length or content. */
  plan(plan: PagedPlan): void {
    const sequences = plan.lastPageLen.length;
    // Page numbers are checked against the cache when it is known, in run().
    const lengths = validatePageTable(plan, sequences, 2 ** 31);
    const qoIndptr = Int32Array.from({ length: sequences + 1 }, (_, i) => i);
    this.planBatch(plan, { ...plan, qoIndptr }, { causal: true, paged: true, decode: true, lengths });
  }

  /** q [batch, heads, head_dim]. @throws RangeError when operands do not fit the plan or a page is not in the cache. */
  run(query: Tensor, cache: PagedCache): Promise<AttentionOutput> {
    return this.launch(query, pagedOperand(cache, this.layout, this.planned));
  }
}

/** Ragged query rows over paged K and V. FlashInfer's BatchPrefillWithPagedKVCacheWrapper. */
export class BatchPrefillWithPagedKVCache extends BatchAttention {
  /** `qoIndptr` [batch + 1]; causal masks are bottom-right aligned. @throws RangeError for arrays that do not fit. */
  plan(plan: PagedPlan & { readonly qoIndptr: Int32Array; readonly causal?: boolean }): void {
    const sequences = plan.lastPageLen.length;
    validateIndptr("qo_indptr", plan.qoIndptr, sequences);
    const lengths = validatePageTable(plan, sequences, 2 ** 31);
    this.planBatch(plan, plan, { causal: plan.causal ?? false, paged: true, decode: false, lengths });
  }

  /** q [qo_indptr[batch], heads, head_dim]. */
  run(query: Tensor, cache: PagedCache): Promise<AttentionOutput> {
    return this.launch(query, pagedOperand(cache, this.layout, this.planned));
  }
}

/** Ragged query rows over ragged K and V. FlashInfer's BatchPrefillWithRaggedKVCacheWrapper. */
export class BatchPrefillWithRaggedKVCache extends BatchAttention {
  /** `qoIndptr` and `kvIndptr` [batch + 1]. */
  plan(
    plan: AttentionPlan & { readonly qoIndptr: Int32Array; readonly kvIndptr: Int32Array; readonly causal?: boolean },
  ): void {
    const sequences = plan.kvIndptr.length - 1;
    validateIndptr("kv_indptr", plan.kvIndptr, sequences);
    validateIndptr("qo_indptr", plan.qoIndptr, sequences);
    // Pages of one token that follow one another.
    const lastPageLen = Int32Array.from({ length: sequences }, (_, b) =>
      Math.min(1, plan.kvIndptr[b + 1]! - plan.kvIndptr[b]!),
    );
    this.planBatch(
      plan,
      { qoIndptr: plan.qoIndptr, indptr: plan.kvIndptr, indices: new Int32Array(0), lastPageLen, pageSize: 1 },
      { causal: plan.causal ?? false, paged: false, decode: false, lengths: new Int32Array(0) },
    );
  }

  /** q [qo_indptr[batch], heads, head_dim]; k and v [kv_indptr[batch], kv_heads, head_dim]. */
  run(query: Tensor, keys: Tensor, values: Tensor): Promise<AttentionOutput> {
    const { plan, keys: count } = this.planned;
    const shape = [count, plan.kvHeads, plan.headDim];
    requireTensor("k", keys, shape);
    requireTensor("v", values, shape);
    const kvDtype = plan.kvDtype ?? "bfloat16";
    for (const [name, { dtype }] of [
      ["k", keys],
      ["v", values],
    ] as const) {
      if (dtype !== kvDtype) throw new RangeError(`${name}: the plan says ${kvDtype}, the tensor is ${dtype}`);
    }
    const order = (tensor: Tensor): [number, number, number] => {
      const [row, head] = stridesOf(tensor) as [number, number];
      return [row, row, head];
    };
    return this.launch(query, { keys, values, pageCount: count, keyStrides: order(keys), valueStrides: order(values) });
  }
}

function pagedOperand(cache: PagedCache, layout: KvLayout, { plan, pageSize, indices }: Planned): CacheView {
  const view = cacheView(cache, layout, { ...plan, pageSize, kvDtype: plan.kvDtype ?? "bfloat16" });
  indices.forEach((page, i) => {
    if (page >= view.pageCount) {
      throw new RangeError(`kv_indices[${i}]: page ${page} is not in 0 … ${view.pageCount - 1}`);
    }
  });
  return view;
}

function requirePlan({ heads, kvHeads, headDim, softCap = 0, windowLeft = -1, scale = 1 }: AttentionPlan): void {
  if (!(heads > 0) || !(kvHeads > 0) || heads % kvHeads !== 0) {
    throw new RangeError(`num_qo_heads ${heads} is not a multiple of num_kv_heads ${kvHeads}`);
  }
  if (heads / kvHeads > 8) throw new RangeError(`group size ${heads / kvHeads}: at most 8 query heads share a KV head`);
  if (headDim % 8 !== 0 || headDim < 8 || headDim > 256) {
    throw new RangeError(`head_dim ${headDim}: expected a multiple of 8 up to 256`);
  }
  if (!(softCap >= 0)) throw new RangeError(`logits_soft_cap ${softCap}: expected 0 (none) or more`);
  if (!Number.isInteger(windowLeft) || windowLeft < -1)
    throw new RangeError(`window_left ${windowLeft}: expected -1 or more`);
  if (!Number.isFinite(scale)) throw new RangeError(`sm_scale ${scale}: expected a finite number`);
}

/** A uniform buffer that says where states to merge lie. */
export function mergeLayout(gpu: Gpu, values: Parameters<typeof mergeParameters.pack>[0]): GPUBuffer {
  return gpu.upload("merge", mergeParameters.pack(values), BufferUsage.uniform);
}

/** Runs kernels one after the other. */
export function submit(
  gpu: Gpu,
  launches: readonly (readonly [Kernel, GPUBindGroup, readonly [number, number, number]])[],
): void {
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const [program, group, grid] of launches) {
    pass.setPipeline(program.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid);
  }
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
}
