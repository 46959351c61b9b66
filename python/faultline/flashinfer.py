"""
Records both sides of every seam of FlashInfer's functions: what they are given, as it lies, and what they give back.

    import faultline.flashinfer
    faultline.flashinfer.install()

Call it once, before or after the program imported FlashInfer's names. While an EngineRun records a step, calls of the paged
decode, paged prefill and ragged prefill wrappers, append_paged_kv_cache, rmsnorm, fused_add_rmsnorm, the RoPE functions and
silu_and_mul are told to it; at all other times they cost one look at a variable.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from .engine import current_step
from .engine_step import EngineStep
from .flashinfer_attention import observe_plan, observe_run
from .flashinfer_functions import OBSERVERS, Arguments

_WRAPPERS = (
    "BatchDecodeWithPagedKVCacheWrapper",
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
)
#: What was put in place of what: (owner, attribute, original).
_replaced: list[tuple[Any, str, Any]] = []


def install() -> None:
    """Observe FlashInfer's calls from now on. Calling it again changes nothing."""
    if _replaced:
        return
    library = importlib.import_module("flashinfer")
    for name, observe in OBSERVERS.items():
        original = getattr(library, name, None)
        if callable(original):
            _replace_everywhere(original, _observed(original, observe))
    for name in _WRAPPERS:
        wrapper = getattr(library, name, None)
        if wrapper is not None:
            _observe_wrapper(wrapper)


def uninstall() -> None:
    """Put FlashInfer's own functions back."""
    while _replaced:
        owner, name, original = _replaced.pop()
        setattr(owner, name, original)


def _replace(owner: Any, name: str, replacement: Any) -> None:
    _replaced.append((owner, name, vars(owner)[name]))
    setattr(owner, name, replacement)


def _replace_everywhere(original: Any, replacement: Any) -> None:
    """Also where a module imported the function by name."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is original:
                _replace(module, name, replacement)


def _observed(
    original: Callable[..., Any], observe: Callable[[EngineStep, Arguments], Callable[[Any], None] | None]
) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def observed(*arguments: Any, **keywords: Any) -> Any:
        step = current_step()
        if step is None:
            return original(*arguments, **keywords)
        bound = signature.bind(*arguments, **keywords)
        bound.apply_defaults()
        tell = observe(step, bound.arguments)
        result = original(*arguments, **keywords)
        if tell is not None:
            tell(result)
        return result

    return observed


def _observe_wrapper(wrapper: type) -> None:
    plan, run = vars(wrapper)["plan"], vars(wrapper)["run"]
    plan_signature, run_signature = inspect.signature(plan), inspect.signature(inspect.unwrap(run))

    @functools.wraps(plan)
    def observed_plan(self: Any, *arguments: Any, **keywords: Any) -> Any:
        result = plan(self, *arguments, **keywords)
        observe_plan(self, plan_signature.bind(self, *arguments, **keywords))
        return result

    @functools.wraps(run)
    def observed_run(self: Any, *arguments: Any, **keywords: Any) -> Any:
        step = current_step()
        if step is None:
            return run(self, *arguments, **keywords)
        bound = run_signature.bind(self, *arguments, **keywords)
        tell = observe_run(step, self, bound.arguments)
        result = run(self, *arguments, **keywords)
        tell(result)
        return result

    _replace(wrapper, "plan", observed_plan)
    _replace(wrapper, "run", observed_run)
    # These were bound to the functions themselves when the class was made.
    if vars(wrapper).get("begin_forward") is plan:
        _replace(wrapper, "begin_forward", observed_plan)
    if "run_return_lse" in vars(wrapper):
        _replace(wrapper, "run_return_lse", functools.partialmethod(observed_run, return_lse=True))
