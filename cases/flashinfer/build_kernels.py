"""Builds the FlashInfer modules that the cases need, in one go on all cores, so that no case waits for its own."""

import time

import torch


def build(head_dim: int) -> None:
    from flashinfer.jit.activation import gen_act_and_mul_module
    from flashinfer.jit.attention import gen_batch_decode_module, gen_batch_prefill_module
    from flashinfer.jit.core import build_jit_specs
    from flashinfer.jit.norm import gen_norm_module
    from flashinfer.jit.page import gen_page_module
    from flashinfer.jit.rope import gen_rope_module

    storage = torch.bfloat16
    # RoPE mode NONE, no window, no soft cap; prefill without float16 reduction.
    types = (storage, storage, storage, torch.int32, head_dim, head_dim, 0, False, False)
    specs = [
        gen_batch_decode_module(*types),
        gen_batch_prefill_module("fa2", *types, False),
        gen_page_module(),
        gen_norm_module(),
        gen_rope_module(),
        gen_act_and_mul_module("silu"),
    ]
    begin = time.time()
    build_jit_specs(specs, verbose=False)
    print(f"built {len(specs)} modules in {time.time() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    build(head_dim=64)
