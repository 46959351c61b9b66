"""
FlashInfer's contract in plain PyTorch, for machines without a GPU: the functions that the recorder observes, with the
arguments, checks, roundings and blind spots of the library (0.6): memory is read through the first strides and the index type
that a kernel takes for granted, whatever the tensor says. Not FlashInfer's code, and of no use for speed.
"""

from .attention import (
    BatchDecodeWithPagedKVCacheWrapper,
    BatchPrefillWithPagedKVCacheWrapper,
    BatchPrefillWithRaggedKVCacheWrapper,
)
from .functions import (
    append_paged_kv_cache,
    apply_rope_pos_ids,
    apply_rope_pos_ids_inplace,
    apply_rope_with_cos_sin_cache,
    apply_rope_with_cos_sin_cache_inplace,
    fused_add_rmsnorm,
    get_batch_indices_positions,
    rmsnorm,
    silu_and_mul,
)

__version__ = "stand-in"
__all__ = [
    "BatchDecodeWithPagedKVCacheWrapper",
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
    "append_paged_kv_cache",
    "apply_rope_pos_ids",
    "apply_rope_pos_ids_inplace",
    "apply_rope_with_cos_sin_cache",
    "apply_rope_with_cos_sin_cache_inplace",
    "fused_add_rmsnorm",
    "get_batch_indices_positions",
    "rmsnorm",
    "silu_and_mul",
]
