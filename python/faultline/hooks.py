"""Hooks on modules, and what a module returns by the names of the capture format."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from .observers import Attach


def returned_values(name: str, output: Any) -> dict[str, torch.Tensor]:
    """What a module returns, by name. A router returns its logits, the weights of the chosen experts and their indices."""
    if isinstance(output, tuple):
        tensors = [part for part in output if isinstance(part, torch.Tensor)]
        if len(output) == 3 and len(tensors) == 3 and not tensors[2].is_floating_point():
            return {name: tensors[0], f"{name}.scores": tensors[1], f"{name}.indices": tensors[2]}
        output = output[0] if output else None
    return {name: output} if isinstance(output, torch.Tensor) else {}


def pre_hook(module: torch.nn.Module, act: Callable[..., None]) -> Attach:
    """Tells module, arguments and options of every call."""
    return lambda: module.register_forward_pre_hook(lambda m, a, k: act(m, a, k), with_kwargs=True).remove


def hook(module: torch.nn.Module, act: Callable[..., None], always: bool = False) -> Attach:
    """Tells module, arguments and result of every call; with `always`, None as the result of one that failed."""
    return lambda: module.register_forward_hook(lambda m, a, out: act(m, a, out), always_call=always).remove


def telling(tell: Callable[[Any], None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A wrapper that tells what a call returns."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            output = original(*arguments, **options)
            tell(output)
            return output

        return call

    return wrap


def say_compiled(what: str) -> None:
    """Warn that what is inside compiled code is not recorded."""
    warnings.warn(
        f"faultline: {what} is compiled: recorded are its borders, not what is inside; run without torch.compile to see more",
        stacklevel=2,
    )
