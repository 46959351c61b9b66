/** What a compiled attention module is for. */
export interface AttentionModule {
  readonly kind: "decode" | "prefill";
  readonly headDim: number;
  /** Whether it knows window_left and logits_soft_cap; a module without them ignores both. */
  readonly window: boolean;
  readonly softCap: boolean;
}

/** FlashInfer's name of a module for bfloat16 queries, caches and outputs and int32 indices. */
export function moduleName({ kind, headDim, window, softCap }: AttentionModule): string {
  const truth = (flag: boolean) => (flag ? "True" : "False");
  const types = "dtype_q_bf16_dtype_kv_bf16_dtype_o_bf16_dtype_idx_i32";
  const rest = `head_dim_qk_${headDim}_head_dim_vo_${headDim}_posenc_0_use_swa_${truth(window)}_use_logits_cap_${truth(softCap)}`;
  return `batch_${kind}_with_kv_cache_${types}_${rest}${kind === "prefill" ? "_f16qk_False" : ""}`;
}
