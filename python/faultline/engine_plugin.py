"""Recording a serving engine's model as the environment says, from a plugin that the engine calls in its processes."""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from .engine import EngineRun

#: Environment variables of EngineRun's options.
_OPTIONS = {"FAULTLINE_LAYERS": "layers", "FAULTLINE_STEPS": "steps", "FAULTLINE_NAMES": "names"}


def options_of_environment() -> tuple[str, dict[str, Any]] | None:
    """The folder that FAULTLINE_RECORD names and the options beside it; None where there is none."""
    directory = os.environ.get("FAULTLINE_RECORD")
    if not directory:
        return None
    options: dict[str, Any] = {key: os.environ[name] for name, key in _OPTIONS.items() if os.environ.get(name)}
    if os.environ.get("FAULTLINE_MAX_BYTES"):
        options["max_bytes"] = int(os.environ["FAULTLINE_MAX_BYTES"])
    return directory, options


def close_at_exit(run: EngineRun) -> None:
    """End the recording when the process ends."""
    atexit.register(run.close)


def attach_when_called(is_model: Callable[[torch.nn.Module], bool], start: Callable[..., EngineRun]) -> None:
    """Where the environment asks for it: record, by `start`, the first module that `is_model` from its first call on."""
    found = options_of_environment()
    if found is None:
        return
    directory, options = found
    others: set[type] = set()

    def look(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        # This hook runs before every call until the model is found: a class is asked once.
        if type(module) in others:
            return
        if not is_model(module):
            others.add(type(module))
            return
        handle.remove()
        run = start(module, directory, **options)
        close_at_exit(run)
        # The call under way is the first one; a hook that was added during it is not called before the next.
        run.begin(module, inputs, {})

    handle = register_module_forward_pre_hook(look)


def rank_by(module: str) -> tuple[int, int]:
    """This rank of tensor parallelism and how many there are, as an engine's own module of that name says."""
    try:
        parallel = importlib.import_module(module)
        return int(parallel.get_tensor_model_parallel_rank()), int(parallel.get_tensor_model_parallel_world_size())
    except (ImportError, AssertionError):
        return 0, 1
