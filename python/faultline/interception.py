"""What transformers does between modules: attention calls, KV caches and sums over ranks, told to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.distributed as dist

from .compiled import replaced

#: Methods of a cache after which nobody knows whose keys stand where.
_REORDERING = ("reorder_cache", "crop", "batch_repeat_interleave", "batch_select_indices", "reset")


class Listener(Protocol):
    """Is told while it listens; must not change what it is given."""

    def appends(self, cache: Any, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keys and values [sequence, head, token, channel] are about to be appended to a cache."""

    def appended(self, cache: Any, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """A cache's keys and values [sequence, head, slot, channel] after the append, as they go on to attention."""

    def attends(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scaling: Any
    ) -> None:
        """Attention is called with query, key and value [sequence, head, token, channel]."""

    def reorders(self, cache: Any) -> None:
        """A cache is reordered, cut or emptied."""

    def sums(self, term: torch.Tensor) -> None:
        """This rank's term is about to be summed over the ranks."""


def cache_among(values: Iterable[Any]) -> Any:
    """The KV cache among a model's arguments or results, under whatever name; None where there is none."""
    from transformers.cache_utils import Cache

    return next((value for value in values if isinstance(value, Cache)), None)


_listeners: list[Listener] = []
_restore: list[Callable[[], None]] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Tell `listener` from now on; what is returned ends that. With nobody listening nothing is left in transformers."""
    if not _listeners:
        _restore.extend(_intercept())
    _listeners.append(listener)

    def end() -> None:
        _listeners.remove(listener)
        if not _listeners:
            while _restore:
                _restore.pop()()

    return end


def _intercept() -> list[Callable[[], None]]:
    from transformers.cache_utils import Cache
    from transformers.modeling_utils import AttentionInterface

    restore = [replaced(Cache, "update", _update), replaced(AttentionInterface, "get_interface", _get_interface)]
    restore += [replaced(Cache, name, _reordering) for name in _REORDERING if hasattr(Cache, name)]
    if dist.is_available():
        restore.append(replaced(dist, "all_reduce", _all_reduce))
    return restore


def _update(original: Callable[..., Any]) -> Callable[..., Any]:
    def update(cache: Any, key_states: Any, value_states: Any, layer_idx: int, *rest: Any, **options: Any) -> Any:
        # Compiled code is traced as if nobody listened.
        if torch.compiler.is_compiling():
            return original(cache, key_states, value_states, layer_idx, *rest, **options)
        for listener in list(_listeners):
            listener.appends(cache, layer_idx, key_states, value_states)
        keys, values = original(cache, key_states, value_states, layer_idx, *rest, **options)
        for listener in list(_listeners):
            listener.appended(cache, layer_idx, keys, values)
        return keys, values

    return update


def _get_interface(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_interface(interface: Any, *arguments: Any, **options: Any) -> Any:
        attend = original(interface, *arguments, **options)
        if torch.compiler.is_compiling():
            return attend

        def observed(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *rest: Any, **keywords: Any) -> Any:
            for listener in list(_listeners):
                listener.attends(module, query, key, value, attention_mask, keywords.get("scaling"))
            return attend(module, query, key, value, attention_mask, *rest, **keywords)

        return observed

    return get_interface


def _reordering(original: Callable[..., Any]) -> Callable[..., Any]:
    def reorder(cache: Any, *arguments: Any, **options: Any) -> Any:
        if not torch.compiler.is_compiling():
            for listener in list(_listeners):
                listener.reorders(cache)
        return original(cache, *arguments, **options)

    return reorder


def _all_reduce(original: Callable[..., Any]) -> Callable[..., Any]:
    def all_reduce(tensor: Any, *arguments: Any, **options: Any) -> Any:
        if not torch.compiler.is_compiling():
            for listener in list(_listeners):
                listener.sums(tensor)
        return original(tensor, *arguments, **options)

    return all_reduce
