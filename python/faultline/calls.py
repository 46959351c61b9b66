"""The calls of a model: each is a forward pass, whether it runs as it is written or compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from .compiled import is_compiled, replaced, uncompiled
from .generation import Generation
from .hooks import hook, pre_hook, say_compiled
from .observers import Observers


class Calls:
    """
    Tells when a forward pass of `model`, or of its `base` alone, begins and ends: begins(module, arguments, options) and
    ends(module, output, compiled). `inner` are the observers that compiled code must not meet.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        base: torch.nn.Module | None,
        begins: Callable[..., None],
        ends: Callable[..., None],
        inner: Observers,
    ) -> None:
        self._model = model
        self._top = uncompiled(model)
        self._base = base
        self._begins = begins
        self._ends = ends
        self._inner = inner
        #: What is compiled, by name.
        self.compiled: list[str] = []

    def observe(self, outer: Observers, generation: Generation) -> None:
        """Add the observers: hooks to the inner ones, what stands around compiled code to `outer`."""
        model, top = self._model, self._top
        # A base model whose forward is traced with its caller's cannot be observed.
        own = [] if self._base is None or is_compiled(top) or is_compiled(self._base) else [self._base]
        for module in (top, *own):
            self._inner.add(pre_hook(module, self._begins))
            self._inner.add(hook(module, lambda m, _, out: self._ends(m, out), always=True))
        if model is not top:
            outer.add(lambda: replaced(model, "forward", self._compiled_call))
        if getattr(top, "_compiled_call_impl", None) is not None:
            outer.add(lambda: replaced(top, "_compiled_call_impl", self._compiled_call))
        if hasattr(top, "get_compiled_call"):
            outer.add(lambda: replaced(top, "get_compiled_call", self._get_compiled_call))
        if hasattr(top, "generate"):
            outer.add(lambda: replaced(top, "generate", generation.observed))
            outer.add(lambda: replaced(top, "prepare_inputs_for_generation", generation.preparing))
        if model is not top or is_compiled(top):
            self.compiled.append("the model")

    def _compiled_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A call of compiled code: only what goes in and comes out is seen."""

        @functools.wraps(original)
        def call(*arguments: Any, **options: Any) -> Any:
            self._begins(self._top, arguments, options)
            with self._inner.suspended():
                output = original(*arguments, **options)
            self._ends(self._top, output, compiled=True)
            return output

        return call

    def _get_compiled_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def get_compiled_call(*arguments: Any, **options: Any) -> Any:
            if "generate" not in self.compiled:
                self.compiled.append("generate")
                say_compiled("generate()")
            return self._compiled_call(original(*arguments, **options))

        return get_compiled_call
