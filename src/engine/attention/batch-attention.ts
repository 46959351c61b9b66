import type { Backend, DeviceBuffer } from "../device/backend.js";
import { BatchBuffer, type BatchShape } from "../device/batch-buffer.js";
import type { KvLayout } from "../device/kv-store.js";
import { type CacheView, headRows, requireTensor, type Tensor } from "../device/tensor.js";
import { planSplits } from "../run/split-plan.js";
import { type AttentionPlan, requirePlan } from "./attention-plan.js";

export interface AttentionOutput {
  readonly output: DeviceBuffer;
  readonly lse: DeviceBuffer;
  readonly rows: number;
}

export interface Planned {
  readonly plan: AttentionPlan;
  readonly batch: BatchBuffer;
  readonly shape: BatchShape;
  readonly decode: boolean;
  readonly causal: boolean;
  readonly indices: Int32Array;
  readonly pageSize: number;
  readonly paged: boolean;
  /** Keys the ragged K and V must hold. */
  readonly keys: number;
}

/** What the three wrappers share: a planned batch, and the call over it once operands have been checked. */
export class BatchAttention {
  #planned: Planned | undefined;

  constructor(
    readonly backend: Backend,
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
    const batch = new BatchBuffer(this.backend, Math.max(rows, 1), Math.max(sequences, 1), Math.max(indices.length, 1));
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
      shape,
      decode: options.decode,
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
    const { backend } = this;
    const { plan, batch, shape, decode, causal, paged, pageSize } = this.planned;
    const { heads, kvHeads, headDim } = plan;
    requireTensor("q", query, [shape.rows, heads, headDim]);
    if (query.dtype !== (plan.queryDtype ?? "float32")) {
      throw new RangeError(`q: the plan says ${plan.queryDtype ?? "float32"}, the query is ${query.dtype}`);
    }
    const output = backend.buffer("attention output", shape.rows * heads * headDim * 4);
    const lse = backend.buffer("attention lse", shape.rows * heads * 4);
    if (shape.rows === 0) return { output, lse, rows: 0 };
    await backend.attend({
      batch,
      shape,
      heads,
      kvHeads,
      headDim,
      decode,
      mask: {
        scale: plan.scale ?? 1 / Math.sqrt(headDim),
        softCap: plan.softCap ?? 0,
        windowLeft: plan.windowLeft ?? -1,
        causal,
      },
      query: headRows(query),
      cache,
      pageSize: paged ? pageSize : undefined,
      output,
      lse,
    });
    return { output, lse, rows: shape.rows };
  }

  destroy(): void {
    this.#planned?.batch.destroy();
    this.#planned = undefined;
  }
}
