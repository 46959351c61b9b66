"""What FlashInfer's functions other than attention read and write, as values of the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from .engine_step import EngineStep, numbers_of
from .flashinfer_attention import unpack_cache

Arguments = Mapping[str, Any]
#: Records what a call reads; what it returns records, from the call's result, what it wrote. None for calls of no value.
Observer = Callable[[EngineStep, Arguments], "Callable[[Any], None] | None"]


def _append(step: EngineStep, arguments: Arguments) -> Callable[[Any], None]:
    attention = step.attention("append_paged_kv_cache")
    keys, values = unpack_cache(arguments["paged_kv_cache"])
    layout = str(arguments["kv_layout"])
    page_size = keys.shape[1 if layout == "NHD" else 2]
    step.value(f"{attention}.k_rope", arguments["append_key"], role="input", by="k_cache")
    step.value(f"{attention}.v_proj", arguments["append_value"], role="input", by="v_cache")
    indptr, indices = numbers_of(arguments["kv_indptr"]), numbers_of(arguments["kv_indices"])
    slots = []
    for sequence, position in zip(numbers_of(arguments["batch_indices"]), numbers_of(arguments["positions"])):
        entry = indptr[sequence] * page_size + position
        page = indices[entry // page_size] if 0 <= entry // page_size < len(indices) else -1
        slots.append(page * page_size + entry % page_size)
    step.rows(slot_mapping=slots, page_size=page_size)

    def tell(_: Any) -> None:
        # All pages of the table, not only those written to: they say where the writer keeps what it wrote before.
        for name, cache in (("k_cache", keys), ("v_cache", values)):
            step.pages(f"{attention}.{name}", cache, layout=layout, pages=indices, role="output", by="append")

    return tell


def _rmsnorm(step: EngineStep, arguments: Arguments) -> Callable[[Any], None] | None:
    norm = step.names.module_of(arguments["weight"])
    if norm is None:
        return None
    last = norm.rpartition(".")[2]
    stream = step.names.stream_before(norm)
    if stream is not None:
        step.produced_or_read(stream, arguments["input"], last)
    elif last in ("q_norm", "k_norm"):
        step.produced_or_read(f"{norm.rpartition('.')[0]}.{last[0]}_proj", arguments["input"], last)
    return lambda result: step.value(norm, result, by="rmsnorm")


def _fused_add_rmsnorm(step: EngineStep, arguments: Arguments) -> Callable[[Any], None] | None:
    norm = step.names.module_of(arguments["weight"])
    stream = None if norm is None else step.names.stream_before(norm)
    if norm is None or stream is None:
        return None
    branch, adder = step.names.branch_before(norm), step.names.adder_before(norm)
    if branch is not None:
        step.value(branch, arguments["input"], role="input", by=adder)

    def tell(_: Any) -> None:
        # Both were written in place: the sum where the stream was, the norm where the branch was.
        step.value(stream, arguments["residual"], by="fused_add_rmsnorm")
        step.value(norm, arguments["input"], by="fused_add_rmsnorm")

    return tell


def _rope(query: str, key: str, positions: str | None) -> Observer:
    """`query`, `key`, `positions`: the parameters' names; of functions that take bounds and offsets there are no positions."""

    def observe(step: EngineStep, arguments: Arguments) -> Callable[[Any], None]:
        attention = step.attention("rope")
        given = {"q": arguments[query], "k": arguments[key]}
        for which, tensor in given.items():
            before = f"{attention}.{which}_norm" if step.has_query_key_norm() else f"{attention}.{which}_proj"
            step.produced_or_read(before, tensor, f"{which}_rope")
        if positions is not None:
            step.rows(positions=numbers_of(arguments[positions]))

        def tell(result: Any) -> None:
            written = (given["q"], given["k"]) if result is None else result
            step.value(f"{attention}.q_rope", written[0], by="rope")
            step.value(f"{attention}.k_rope", written[1], by="rope")

        return tell

    return observe


def _silu_and_mul(step: EngineStep, arguments: Arguments) -> Callable[[Any], None] | None:
    layer = step.layer()
    if layer is None:
        return None
    both = arguments["input"]
    half = both.shape[-1] // 2
    step.produced_or_read(f"{layer}.mlp.gate_proj", both[..., :half], "act_fn")
    step.produced_or_read(f"{layer}.mlp.up_proj", both[..., half:], "down_proj.input")
    return lambda result: step.value(f"{layer}.mlp.down_proj.input", result, by="silu_and_mul")


_BY_POSITION = _rope("q", "k", "pos_ids")
_BY_BOUNDS = _rope("q", "k", None)
_BY_TABLE = _rope("query", "key", "positions")

OBSERVERS: dict[str, Observer] = {
    "append_paged_kv_cache": _append,
    "rmsnorm": _rmsnorm,
    "fused_add_rmsnorm": _fused_add_rmsnorm,
    "apply_rope": _BY_BOUNDS,
    "apply_rope_inplace": _BY_BOUNDS,
    "apply_rope_pos_ids": _BY_POSITION,
    "apply_rope_pos_ids_inplace": _BY_POSITION,
    "apply_llama31_rope": _BY_BOUNDS,
    "apply_llama31_rope_inplace": _BY_BOUNDS,
    "apply_llama31_rope_pos_ids": _BY_POSITION,
    "apply_llama31_rope_pos_ids_inplace": _BY_POSITION,
    "apply_rope_with_cos_sin_cache": _BY_TABLE,
    "apply_rope_with_cos_sin_cache_inplace": _BY_TABLE,
    "silu_and_mul": _silu_and_mul,
}
