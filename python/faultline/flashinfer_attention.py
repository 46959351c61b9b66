"""What FlashInfer's attention wrappers are planned with and what they read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .engine import current_step
from .engine_step import EngineStep, PageTable, numbers_of

_PLAN = "_faultline_plan"
#: Arguments of plan() that say which attention was asked for; the page table is read where the kernel reads it.
_SETTINGS = (
    "num_qo_heads",
    "num_kv_heads",
    "head_dim",
    "head_dim_qk",
    "head_dim_vo",
    "page_size",
    "causal",
    "sm_scale",
    "window_left",
    "logits_soft_cap",
    "pos_encoding_mode",
    "rope_scale",
    "rope_theta",
    "q_data_type",
    "kv_data_type",
    "o_data_type",
    "data_type",
    "fixed_split_size",
    "disable_split_kv",
)


def observe_plan(wrapper: Any, bound: inspect.BoundArguments) -> None:
    """Keep what a wrapper was planned with; tensors as they are, since the kernel reads them later."""
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    arguments.update(arguments.pop("kwargs", {}))
    arguments.pop("self", None)
    step = current_step()
    setattr(wrapper, _PLAN, arguments | {"planned_in_step": step.number if step else None})


def observe_run(step: EngineStep, wrapper: Any, arguments: Mapping[str, Any]) -> Callable[[Any], None]:
    """Record queries, keys, values and the page table as the call reads them; what is returned records its result."""
    kind = type(wrapper).__name__
    attention = step.attention("attention.run")
    plan: dict[str, Any] = getattr(wrapper, _PLAN, {})
    step.value(f"{attention}.q_rope", arguments["q"], role="input", by="attention")
    call = {"name": attention, "call": kind, "backend": getattr(wrapper, "_backend", None)}
    call |= {key: _plain(plan[key]) for key in _SETTINGS if key in plan}
    call |= {key: _plain(arguments[key]) for key in ("q_scale", "k_scale", "v_scale") if arguments.get(key) is not None}
    if "Ragged" in kind:
        _read_ragged(step, attention, arguments)
    else:
        _read_pages(step, wrapper, attention, arguments, plan, call)

    def tell(result: Any) -> None:
        output = result[0] if isinstance(result, tuple) else result
        step.value(f"{attention}.o_proj.input", output, by="attention")

    return tell


def _read_ragged(step: EngineStep, attention: str, arguments: Mapping[str, Any]) -> None:
    """Keys and values that are read as they were made, not from pages."""
    step.value(f"{attention}.k_rope", arguments["k"], role="input", by="attention")
    step.value(f"{attention}.v_proj", arguments["v"], role="input", by="attention")


def _read_pages(
    step: EngineStep,
    wrapper: Any,
    attention: str,
    arguments: Mapping[str, Any],
    plan: Mapping[str, Any],
    call: dict[str, Any],
) -> None:
    layout = str(getattr(wrapper, "_kv_layout", "NHD"))
    keys, values = unpack_cache(arguments["paged_kv_cache"])
    page_size = keys.shape[1 if layout == "NHD" else 2]
    table, types = page_table(wrapper, plan, page_size)
    step.table(table, call | {"kv_layout": layout, "index_types": types})
    for name, cache, scale in (("k_cache", keys, "k_scale"), ("v_cache", values, "v_scale")):
        factor = arguments.get(scale)
        step.pages(
            f"{attention}.{name}",
            cache,
            layout=layout,
            pages=table.kv_indices,
            role="input",
            by="attention",
            scale=None if factor is None or cache.dtype.itemsize > 1 else float(factor),
        )


def page_table(wrapper: Any, plan: Mapping[str, Any], page_size: int) -> tuple[PageTable, dict[str, str]]:
    """
    The page table as the kernel reads it at this moment, and the types its arrays have. A kernel is built for the type of
    the bounds and takes the memory of the other arrays for that type, whatever theirs is.
    """
    indptr = _buffer(wrapper, plan, "_paged_kv_indptr_buf", ("indptr", "paged_kv_indptr"))
    indices = _buffer(wrapper, plan, "_paged_kv_indices_buf", ("indices", "paged_kv_indices"))
    lengths = _buffer(wrapper, plan, "_paged_kv_last_page_len_buf", ("last_page_len", "paged_kv_last_page_len"))
    bounds = numbers_of(indptr)
    batch = len(bounds) - 1
    word = indptr.dtype
    rows = _buffer(wrapper, plan, "_qo_indptr_buf", ("qo_indptr",)) if "qo_indptr" in plan else None
    step = int(plan.get("q_len_per_req", 1) or 1)
    queries = [b * step for b in range(batch + 1)] if rows is None else _words(rows, word)[: batch + 1]
    table = PageTable(page_size, bounds, _words(indices, word)[: bounds[-1]], _words(lengths, word)[:batch], queries)
    types = {"indptr": indptr.dtype, "indices": indices.dtype, "last_page_len": lengths.dtype}
    return table, {name: str(dtype).removeprefix("torch.") for name, dtype in types.items()}


def unpack_cache(cache: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a cache given as a pair or as one tensor [pages, 2, ...]: views, four axes each."""
    if isinstance(cache, torch.Tensor):
        return cache[:, 0], cache[:, 1]
    keys, values = cache
    return keys, values


def _buffer(wrapper: Any, plan: Mapping[str, Any], attribute: str, names: Sequence[str]) -> torch.Tensor:
    """The array the wrapper hands to its kernel; where this version keeps it elsewhere, what was planned."""
    buffer = getattr(wrapper, attribute, None)
    found = buffer if isinstance(buffer, torch.Tensor) else next(plan[name] for name in names if name in plan)
    return torch.as_tensor(found)


def _words(tensor: torch.Tensor, word: torch.dtype) -> list[int]:
    """The numbers that a reader of another integer type finds in the same memory."""
    flat = tensor.detach().reshape(-1).cpu()
    return numbers_of(flat if flat.dtype == word else flat.view(word))


def _plain(value: Any) -> Any:
    """A setting as JSON knows it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if isinstance(value, torch.Tensor) and value.numel() == 1 else str(value).removeprefix("torch.")
