"""
Records a vLLM worker's model, through vLLM's own hooks. Without touching code, since the package names `register` as a general
plugin, which vLLM calls in each of its processes:

    FAULTLINE_RECORD=run/ FAULTLINE_LAYERS=0-3 vllm serve MODEL --enforce-eager --no-enable-prefix-caching

Or where one wants it, through a worker extension:

    llm = LLM(MODEL, enforce_eager=True, enable_prefix_caching=False, worker_extension_cls="faultline.vllm.WorkerExtension")
    llm.collective_rpc("start_faultline", args=("run/",), kwargs={"layers": "0-3"})
    llm.generate(...)
    llm.collective_rpc("stop_faultline")

Modules inside a compiled or captured graph do not run one by one: without `enforce_eager` nothing but what happens outside of
graphs is seen, and the manifest says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .engine import EngineRun
from .engine_plugin import attach_when_called, rank_by
from .engine_step import EngineStep, PageTable, numbers_of

_run: EngineRun | None = None


def register() -> None:
    """vLLM's general plugin: where FAULTLINE_RECORD names a folder, the model of this process is recorded into it."""
    attach_when_called(_is_model, start)


def start(model: torch.nn.Module, directory: str, **options: Any) -> EngineRun:
    """Record `model`, a vLLM model whose layers have an `attn` module, from its next step on: EngineRun's options."""
    library = importlib.import_module("vllm")
    rank, world = rank_by("vllm.distributed")
    return EngineRun(
        model,
        directory if world == 1 else f"{directory.rstrip('/')}/rank{rank}",
        runtime={"name": "vllm", "version": getattr(library, "__version__", "")},
        shard=(rank, world),
        attention=observe_attention,
        is_step=lambda *_: _metadata() is not None,
        ends_late=True,
        **options,
    )


class WorkerExtension:
    """Methods that vLLM adds to its workers; called through `collective_rpc`."""

    def start_faultline(self, directory: str, **options: Any) -> None:
        """Begin to record into `directory`, of several ranks each into its own folder there."""
        global _run
        model = self.model_runner.get_model()  # type: ignore[attr-defined]
        _run = start(model, directory, **options)

    def stop_faultline(self) -> None:
        """End the recording."""
        global _run
        if _run is not None:
            _run.close()
        _run = None


def observe_attention(
    step: EngineStep, name: str, module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> Callable[[Any], None]:
    """
    What an attention layer is given, and after it ran its pages and its result. vLLM appends and attends in one module: the
    pages are seen once, after both.
    """
    query, key, value = _operands(inputs, keywords)
    step.value(f"{name}.q_rope", query, role="input", by="attention")
    step.value(f"{name}.k_rope", key, role="input", by="k_cache")
    step.value(f"{name}.v_proj", value, role="input", by="v_cache")
    layer = getattr(module, "layer_name", f"{name}.attn")
    metadata = _metadata(layer)

    def tell(output: Any) -> None:
        step.value(f"{name}.o_proj.input", output, by="attention")
        cache = getattr(module, "kv_cache", None)
        cache = cache[0] if isinstance(cache, (list, tuple)) and cache else cache
        if metadata is None or not isinstance(cache, torch.Tensor) or cache.numel() == 0:
            return
        backend = module.attn_backend.get_name() if hasattr(module, "attn_backend") else None
        heads, width = int(module.num_kv_heads), int(module.head_size)  # type: ignore[arg-type]
        views = cache_views(cache, heads, width, backend)
        if views is None:
            return
        keys, values, layout = views
        page_size = keys.shape[1 if layout == "NHD" else 2]
        table = page_table(metadata, page_size)
        slots = _slot_mapping(metadata, layer)
        if slots is not None:
            step.rows(slot_mapping=slots[: table.qo_indptr[-1]])
        step.table(table, {"name": name, "call": type(metadata).__name__, "backend": backend, "kv_layout": layout} | _graphs())
        for cached, view, scale in (("k_cache", keys, "_k_scale_float"), ("v_cache", values, "_v_scale_float")):
            factor = getattr(module, scale, None) if view.dtype.itemsize == 1 else None
            for role, by in (("output", "append"), ("input", "attention")):
                step.pages(
                    f"{name}.{cached}", view, layout=layout, pages=table.kv_indices, role=role, by=by, scale=factor
                )

    return tell


def cache_views(
    cache: torch.Tensor, heads: int, width: int, backend: str | None
) -> tuple[torch.Tensor, torch.Tensor, str] | None:
    """
    Keys and values of a layer's cache in the layouts that vLLM's backends have, and which it is: [2, pages, slots, heads, width]
    and [pages, 2, slots, heads, width] (NHD), the same with heads before slots (HND), [pages, heads, slots, 2 · width] with the
    keys before the values of each slot, or on the CPU with those of all slots before. None for others.
    """
    sizes = tuple(cache.shape)
    if len(sizes) == 5 and sizes[4] == width and 2 in sizes[:2]:
        # With two pages both axes have two: vLLM's newer one, pages first, is taken.
        keys, values = (cache[:, 0], cache[:, 1]) if sizes[1] == 2 else (cache[0], cache[1])
        if sizes[3] == heads:
            return keys, values, "NHD"
        return (keys, values, "HND") if sizes[2] == heads else None
    if len(sizes) != 4 or sizes[3] != 2 * width or sizes[1] != heads:
        return None
    if backend == "CPU_ATTN":
        halves = cache.view(sizes[0], heads, 2 * sizes[2], width)
        return halves[:, :, : sizes[2]], halves[:, :, sizes[2] :], "HND"
    return cache[..., :width], cache[..., width:], "HND"


def page_table(metadata: Any, page_size: int) -> PageTable:
    """The block table, the lengths and the bounds of an attention's metadata as FlashInfer's page table."""
    bounds = numbers_of(metadata.query_start_loc)
    lengths = numbers_of(metadata.seq_lens)[: len(bounds) - 1]
    # Padded requests have no rows.
    count = sum(1 for b in range(len(lengths)) if bounds[b + 1] > bounds[b])
    blocks = metadata.block_table.detach().cpu().tolist()
    indptr, indices, last = [0], [], []
    for b in range(count):
        pages = -(-lengths[b] // page_size)
        indices += [int(page) for page in blocks[b][:pages]]
        indptr.append(len(indices))
        last.append((lengths[b] - 1) % page_size + 1 if lengths[b] else 0)
    return PageTable(page_size, indptr, indices, last, bounds[: count + 1])


def _is_model(module: torch.nn.Module) -> bool:
    return hasattr(module, "compute_logits")


def _metadata(layer: str | None = None) -> Any:
    """The attention metadata of the step under way, of one layer or of any; None while vLLM warms up."""
    context = importlib.import_module("vllm.forward_context")
    if not context.is_forward_context_available():
        return None
    metadata = context.get_forward_context().attn_metadata
    if isinstance(metadata, list):
        return None
    if not isinstance(metadata, dict):
        return metadata
    return metadata.get(layer) if layer is not None else next(iter(metadata.values()), None)


def _slot_mapping(metadata: Any, layer: str) -> list[int] | None:
    """Slots the new rows are written to: in the layer's metadata, or in newer versions in the context."""
    slots = getattr(metadata, "slot_mapping", None)
    if slots is None:
        context = importlib.import_module("vllm.forward_context").get_forward_context()
        by_layer = getattr(context, "slot_mapping", None)
        slots = by_layer.get(layer) if isinstance(by_layer, dict) else None
    return None if slots is None else numbers_of(slots)


def _graphs() -> dict[str, Any]:
    """Whether this step is replayed from a CUDA graph."""
    context = importlib.import_module("vllm.forward_context").get_forward_context()
    mode = getattr(context, "cudagraph_runtime_mode", None)
    return {"cuda_graphs": None if mode is None else getattr(mode, "name", str(mode))}


def _operands(inputs: Sequence[Any], keywords: dict[str, Any]) -> list[Any]:
    names = ("query", "key", "value")
    return [inputs[i] if i < len(inputs) else keywords.get(name) for i, name in enumerate(names)]
