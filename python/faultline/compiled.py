"""torch.compile: what was compiled cannot be looked into without compiling it anew, so it is recorded at its borders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch


def uncompiled(model: torch.nn.Module) -> torch.nn.Module:
    """The module that torch.compile wrapped, or the module itself."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, torch.nn.Module) else model


def is_compiled(module: torch.nn.Module) -> bool:
    """Whether calling the module runs compiled code: torch.compile(module), module.compile() or a compiled forward."""
    if uncompiled(module) is not module or getattr(module, "_compiled_call_impl", None) is not None:
        return True
    return hasattr(module.forward, "_torchdynamo_orig_callable")


def visible_modules(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """
    Modules below `model` by name, as in `named_modules()`, that can be observed: none inside compiled ones, which are given
    themselves. Names are those of the model before it was compiled.
    """
    for name, child in model.named_children():
        yield name, child
        if not is_compiled(child):
            for below, module in visible_modules(child):
                yield f"{name}.{below}", module


def replaced(owner: object, attribute: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    """Put make(original) in place of an attribute; what is returned puts the original back."""
    had = attribute in vars(owner)
    original = getattr(owner, attribute)
    # Around torch.nn.Module.__setattr__: it is no parameter and no module.
    _set(owner, attribute, make(original))

    def restore() -> None:
        if had:
            _set(owner, attribute, original)
        elif isinstance(owner, type):
            delattr(owner, attribute)
        else:
            object.__delattr__(owner, attribute)

    return restore


def _set(owner: object, attribute: str, value: Any) -> None:
    if isinstance(owner, type) or not hasattr(owner, "__dict__"):
        setattr(owner, attribute, value)
    else:
        vars(owner)[attribute] = value
