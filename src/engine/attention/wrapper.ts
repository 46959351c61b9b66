import type { KvLayout } from "../device/kv-store.js";
import { type CacheView, cacheView, type PagedCache, requireTensor, stridesOf, type Tensor } from "../device/tensor.js";
import { validateIndptr, validatePageTable } from "../run/page-table.js";
import type { AttentionPlan, PagedPlan } from "./attention-plan.js";
import { type AttentionOutput, BatchAttention, type Planned } from "./batch-attention.js";

/**
 * FlashInfer's batch attention: plan once per batch, run once per layer. Outputs are float32: `output`
 * [rows, heads, head_dim] and the base-2 log-sum-exp `lse` [rows, heads]; without visible keys they are 0 and -infinity.
 */

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
