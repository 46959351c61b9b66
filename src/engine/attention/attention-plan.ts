import type { DType } from "../../tensor/dtype.js";

/** What every batch of an attention layer shares. */
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

/** A batch over paged K and V, as FlashInfer's page table describes it. */
export interface PagedPlan extends AttentionPlan {
  /** kv_indptr [batch + 1], kv_indices [kv_indptr[batch]], kv_last_page_len [batch]. */
  readonly indptr: Int32Array;
  readonly indices: Int32Array;
  readonly lastPageLen: Int32Array;
  readonly pageSize: number;
}

/** @throws RangeError when heads, head_dim, soft cap, window or scale are not what the kernels can do. */
export function requirePlan({ heads, kvHeads, headDim, softCap = 0, windowLeft = -1, scale = 1 }: AttentionPlan): void {
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
