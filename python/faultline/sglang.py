"""
Records the model of an SGLang process, through SGLang's own hooks. Without touching code, since the package names `register`
as a plugin, which SGLang calls in each of its processes:

    FAULTLINE_RECORD=run/ FAULTLINE_LAYERS=0-3 python -m sglang.launch_server --model-path MODEL --disable-cuda-graph \\
        --disable-radix-cache

Or where the model is at hand: `faultline.sglang.start(model, "run/")`. Modules inside a captured graph do not run: without
`--disable-cuda-graph` prompts are recorded and decode steps are not, and the recording has their numbers missing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from .engine import EngineRun
from .engine_plugin import close_at_exit, options_of_environment, rank_by
from .engine_step import EngineStep, PageTable, numbers_of

_LOAD = "sglang.srt.model_executor.model_runner.ModelRunner.load_model"


def register() -> None:
    """SGLang's plugin: where FAULTLINE_RECORD names a folder, the model of this process is recorded into it."""
    found = options_of_environment()
    if found is not None:
        directory, options = found
        registry = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry
        registry.register(_LOAD, lambda _, runner, *__, **___: close_at_exit(start(runner.model, directory, **options)))


def start(model: torch.nn.Module, directory: str, **options: Any) -> EngineRun:
    """Record `model`, an SGLang model whose layers have a RadixAttention `attn`, from its next step on: EngineRun's options."""
    library = importlib.import_module("sglang")
    rank, world = rank_by("sglang.srt.distributed")
    return EngineRun(
        model,
        directory if world == 1 else f"{directory.rstrip('/')}/rank{rank}",
        runtime={"name": "sglang", "version": getattr(library, "__version__", "")},
        shard=(rank, world),
        attention=observe_attention,
        is_step=lambda inputs, keywords: _batch(inputs, keywords) is not None,
        # SGLang calls the forward of the model itself, which no hook of torch sees, and the modules in it as modules.
        entry="model",
        ends_late=True,
        **options,
    )


def observe_attention(
    step: EngineStep, name: str, module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> Callable[[Any], None]:
    """
    What an attention layer is given, and after it ran its pages and its result. SGLang appends and attends in one module: the
    pages are seen once, after both. Its cache is addressed token by token: pages of one slot.
    """
    query, key, value = (
        inputs[i] if i < len(inputs) else keywords.get(letter) for i, letter in enumerate(("q", "k", "v"))
    )
    step.value(f"{name}.q_rope", query, role="input", by="attention")
    step.value(f"{name}.k_rope", key, role="input", by="k_cache")
    step.value(f"{name}.v_proj", value, role="input", by="v_cache")
    batch = _batch(inputs, keywords)

    def tell(output: Any) -> None:
        step.value(f"{name}.o_proj.input", output[0] if isinstance(output, tuple) else output, by="attention")
        if batch is None:
            return
        pool, requests = _pools(batch)
        table = page_table(batch, requests)
        step.rows(slot_mapping=numbers_of(batch.out_cache_loc)[: table.qo_indptr[-1]])
        step.table(table, {"name": name, "call": "RadixAttention", "mode": str(getattr(batch, "forward_mode", ""))})
        layer = int(module.layer_id)  # type: ignore[arg-type]
        for cached, buffer, scale in (
            ("k_cache", pool.get_key_buffer(layer), "k_scale_float"),
            ("v_cache", pool.get_value_buffer(layer), "v_scale_float"),
        ):
            # [slots, heads, head_dim], a slot a page.
            view = buffer.unsqueeze(1)
            factor = getattr(module, scale, None) if view.dtype.itemsize == 1 else None
            for role, by in (("output", "append"), ("input", "attention")):
                step.pages(
                    f"{name}.{cached}", view, layout="NHD", pages=table.kv_indices, role=role, by=by, scale=factor
                )

    return tell


def page_table(batch: Any, requests: Any) -> PageTable:
    """The slots of each request of a ForwardBatch, as a page table with pages of one slot."""
    lengths = numbers_of(batch.seq_lens)
    rows = numbers_of(batch.extend_seq_lens) if _is_extend(batch) else [1] * len(lengths)
    owners = numbers_of(batch.req_pool_indices)
    indptr, indices, bounds = [0], [], [0]
    for owner, length, count in zip(owners, lengths, rows):
        indices += numbers_of(requests.req_to_token[owner, :length])
        indptr.append(len(indices))
        bounds.append(bounds[-1] + count)
    return PageTable(1, indptr, indices, [1 if length else 0 for length in lengths], bounds)


def _is_extend(batch: Any) -> bool:
    return getattr(batch, "extend_seq_lens", None) is not None and not batch.forward_mode.is_decode()


def _batch(inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The ForwardBatch among a call's arguments; None for calls without tokens."""
    found = next((value for value in (*inputs, *keywords.values()) if hasattr(value, "out_cache_loc")), None)
    return None if found is None or found.forward_mode.is_idle() else found


def _pools(batch: Any) -> tuple[Any, Any]:
    """The cache and the slots of requests: of the batch, or in newer versions of the forward context."""
    if getattr(batch, "token_to_kv_pool", None) is not None:
        return batch.token_to_kv_pool, batch.req_to_token_pool
    context = importlib.import_module("sglang.srt.model_executor.forward_context")
    return context.get_token_to_kv_pool(), context.get_req_to_token_pool()
