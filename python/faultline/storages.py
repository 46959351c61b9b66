"""Copies what a tensor addresses, as it lies in memory, and says whose memory it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from torch.multiprocessing import reductions

import torch

from .tensor_file import Span


@dataclass
class _Storage:
    """Memory with an identity. `epoch` counts the times its recorded bytes were seen to change, and the steps it was seen in."""

    name: str
    #: Holds the storage's address, not its memory.
    reference: Any
    epoch: int = -1
    step: int = -1
    # First byte of each span copied at this epoch, and the bytes.
    copies: dict[int, np.ndarray] = field(default_factory=dict)


class Storages:
    """Names storages: two views of one storage get one name, memory that was freed and taken again gets another."""

    def __init__(self, prefix: str = "s") -> None:
        self._prefix = prefix
        self._known: dict[int, _Storage] = {}
        self._count = 0

    def begin_step(self) -> None:
        """Forget storages that are gone; the others keep their names."""
        self._known = {key: known for key, known in self._known.items() if not known.reference.expired()}

    def copy(
        self, tensor: torch.Tensor, stretches: Sequence[tuple[int, int]], step: int
    ) -> tuple[str, int, list[Span]]:
        """
        Copy stretches of the tensor's storage, whatever of them the tensor addresses: each its first element, counted from
        the start of the storage, and how many. Returns the storage's name, its epoch and the copies.
        """
        spans = [copy_span(tensor, first, elements) for first, elements in stretches]
        begins = [first * tensor.dtype.itemsize for first, _ in stretches]
        known = self._of(tensor)
        overwritten = any(_was_overwritten(known.copies, begin, span.data) for begin, span in zip(begins, spans))
        if known.step != step or overwritten:
            known.epoch += 1
            known.step = step
            known.copies = {}
        for begin, span in zip(begins, spans):
            longest = known.copies.get(begin)
            if longest is None or longest.nbytes < span.data.nbytes:
                known.copies[begin] = span.data
        return known.name, known.epoch, spans

    def end_step(self) -> None:
        """Let go of the step's copies."""
        for known in self._known.values():
            known.copies = {}

    def _of(self, tensor: torch.Tensor) -> _Storage:
        reference: Any = cast(Any, reductions).StorageWeakRef(tensor.untyped_storage())
        known = self._known.get(reference.cdata)
        # While a weak reference is held its address is nobody else's: an expired one was dropped or is replaced here.
        if known is None or known.reference.expired():
            known = _Storage(f"{self._prefix}{self._count}", reference)
            self._known[reference.cdata] = known
            self._count += 1
        return known


def copy_span(tensor: torch.Tensor, first: int, elements: int) -> Span:
    """A copy on the CPU of the elements of the tensor's storage from `first` on."""
    flat = tensor.detach().as_strided((elements,), (1,), first)
    copied = flat.to("cpu", copy=True)
    return Span(copied.dtype, copied.view(torch.uint8).numpy())


def _was_overwritten(copies: dict[int, np.ndarray], begin: int, data: np.ndarray) -> bool:
    """Whether bytes that were copied before have other values now."""
    end = begin + data.nbytes
    for known_begin, known in copies.items():
        low, high = max(begin, known_begin), min(end, known_begin + known.nbytes)
        if low >= high:
            continue
        if not np.array_equal(known[low - known_begin : high - known_begin], data[low - begin : high - begin]):
            return True
    return False
