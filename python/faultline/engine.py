"""Records a serving engine's model: one whose rows of several sequences lie one behind the other in one axis."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .engine_names import EngineNames
from .engine_step import EngineStep
from .selection import Selection
from .writer import DEFAULT_MAX_BYTES, CaptureWriter, device_name

#: Records what an attention module is given, (step, name of the attention, module, arguments, keywords), and returns what
#: records its result.
AttentionObserver = Callable[
    [EngineStep, str, torch.nn.Module, tuple[Any, ...], dict[str, Any]], Callable[[Any], None]
]

_current: EngineRun | None = None


def current_step() -> EngineStep | None:
    """The step that is being recorded, None while nothing is: what wrappers of an engine's functions ask first."""
    return None if _current is None else _current.under_way


class EngineRun:
    """
    Hooks on the modules of `model`, named as Hugging Face names them, from now until `close()`:

        with EngineRun(model, "run/", layers="0-3", steps="0:8") as run:
            run.batch(seq_ids=[7, 9], qo_indptr=[0, 5, 18])
            logits = model(input_ids, positions)
            run.sample(logits.argmax(-1).tolist())

    A call of `model` is a step. `batch` says whose rows it computes; without it they are derived from the attention's page
    table (EngineStep). Attention, caches and other functions are told by `faultline.flashinfer`, `faultline.vllm` or
    `faultline.sglang`, or by the program itself through `current_step()`. Steps of which nobody says the tokens are dropped.
    `layers`, `steps`, `names`: faultline.Selection. `shard`: this rank and how many there are.

    Of an engine: `attention` observes the modules `self_attn.attn`; `is_step` says whether a call computes tokens at all, or
    warms up; `entry` is the module whose call is a step, where the engine calls the model past its hooks; with `ends_late` a
    step ends when the next one begins, since logits are computed after the call.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        directory: str | os.PathLike[str],
        *,
        layers: str | None = None,
        steps: str | None = None,
        names: str | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        keep: str = "oldest",
        runtime: dict[str, Any] | None = None,
        shard: tuple[int, int] | None = None,
        attention: AttentionObserver | None = None,
        is_step: Callable[[tuple[Any, ...], dict[str, Any]], bool] | None = None,
        entry: str = "",
        ends_late: bool = False,
    ) -> None:
        global _current
        if _current is not None:
            raise RuntimeError(f"a recording into {_current.writer.directory} is under way; close it first")
        self.names = EngineNames(model)
        self.selection = Selection(layers, steps, names)
        rank, world = shard if shard is not None and shard[1] > 1 else (None, None)
        parameter = next(iter(model.parameters()))
        self.writer = CaptureWriter(
            directory,
            model=self.names.config,
            runtime={
                "device": device_name(parameter.device),
                "dtype": str(parameter.dtype).removeprefix("torch."),
                "torch": torch.__version__,
                **(runtime or {}),
            },
            rank=rank,
            world=world,
            max_bytes=max_bytes,
            keep=keep,
        )
        self.shard = None if rank is None or world is None else (rank, world)
        self.attention = attention
        self._is_step = is_step
        self._ends_late = ends_late
        #: The step that is recorded at this moment.
        self.under_way: EngineStep | None = None
        #: Sequences by their first page: how rows are told apart without `batch`.
        self.sequences: dict[int, int] = {}
        self.next_sequence = 0
        self._batch: dict[str, Any] = {}
        self._passes = 0
        self._last: int | None = None
        self._handles: list[Any] = []
        self._hook(model, entry)
        _current = self

    def batch(self, *, seq_ids: Sequence[int], qo_indptr: Sequence[int], **metadata: Any) -> None:
        """Whose rows the next step computes, and metadata that the program knows: fields of the format's `step` event."""
        self._batch = {"seq_ids": list(seq_ids), "qo_indptr": list(qo_indptr), **metadata}

    def sample(self, token_ids: Sequence[int]) -> None:
        """The tokens sampled from the last step's logits, one per sequence."""
        if self._last is not None:
            self.writer.sample(self._last, token_ids)

    def close(self) -> None:
        """Take the hooks away and end the recording."""
        global _current
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._ends_late:
            self.end_step()
        self.under_way = None
        self.writer.close()
        if _current is self:
            _current = None

    def __enter__(self) -> EngineRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hook(self, model: torch.nn.Module, entry: str) -> None:
        step = model.get_submodule(entry)
        self._handles.append(step.register_forward_pre_hook(self.begin, with_kwargs=True))
        for path, module in model.named_modules():
            if path in ("", entry) or re.search(r"(^|\.)layers$", path):
                continue
            self._handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leaving(path), with_kwargs=True))
        self._handles.append(step.register_forward_hook(self._end))

    def begin(self, _: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """The hook on the model: a call begins."""
        if self._ends_late:
            self.end_step()
        # A pass that failed left its step behind.
        self.under_way = None
        if self._is_step is None or self._is_step(inputs, keywords):
            self._begin_step()

    def _end(self, *_: object) -> None:
        if not self._ends_late:
            self.end_step()

    def _begin_step(self) -> None:
        number, self._passes = self._passes, self._passes + 1
        self._last = None
        self.writer.next_step = number
        if not self.selection.has_step(number) or self.writer.is_full:
            return
        self.under_way = EngineStep(self, self.writer.step(), self._batch)
        self._batch = {}

    def end_step(self) -> None:
        """The pass is over: its step is written."""
        step, self.under_way = self.under_way, None
        if step is not None and step.finish():
            self._last = step.number

    def _entering(self, path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if self.under_way is not None:
                self.under_way.enter(path, module, inputs, keywords)

        return hook

    def _leaving(self, path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            if self.under_way is not None:
                self.under_way.leave(path, module, inputs, keywords, output)

        return hook
