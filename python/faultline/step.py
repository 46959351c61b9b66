"""One forward pass being recorded: its rows, its values and their bytes, held until the pass is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from .tensor_file import SAFETENSORS_TYPES, Span, type_name

if TYPE_CHECKING:
    from .writer import CaptureWriter

#: A part of a value: {"axis": "h" | "c" | "t", "part": int, "of": int}; or a term of a sum: {"part": int, "of": int}.
Part = dict[str, Any]


class Step:
    """
    Values of one forward pass. Each is copied when it is told, with the memory it lies in; nothing is on disk before the
    step ends, and a step that fails leaves nothing.
    """

    def __init__(self, writer: CaptureWriter, number: int) -> None:
        self.number = number
        self.spans: dict[str, Span] = {}
        # First element in its storage of each span.
        self._begins: dict[str, int] = {}
        #: Bytes of the spans.
        self.size = 0
        self._writer = writer
        self._rows: dict[str, Any] | None = None
        self._values: list[dict[str, Any]] = []
        self._left_out: list[str] = []

    def rows(self, *, seq_ids: Sequence[int], token_ids: Sequence[int], qo_indptr: Sequence[int], **metadata: Any) -> None:
        """
        Which tokens the pass computes: fields of the format's `step` event, at any time before the step ends. `metadata`
        is what the runtime really used: positions, kv_indptr, kv_indices, kv_last_page_len, slot_mapping, page_size, and of
        padded batches row_map, padded and kv_slots; what is None is left out. Said twice, the later fields are added.
        """
        said = {"seq_ids": list(seq_ids), "token_ids": list(token_ids), "qo_indptr": list(qo_indptr), **metadata}
        self._rows = (self._rows or {}) | {key: field for key, field in said.items() if field is not None}

    def value(
        self,
        name: str,
        tensor: torch.Tensor,
        *,
        role: str = "output",
        by: str | None = None,
        shard: Part | None = None,
        partial: Part | None = None,
    ) -> None:
        """
        Record a value as somebody addressed it: `role` "output" as its producer wrote it, "input" as the consumer `by` read
        it. The tensor's strides and offset are kept: what is copied is the span of its storage from the first to the last
        element that it touches.
        """
        view = self.view(name, tensor)
        if view is not None:
            self._add(name, role, by, view, shard, partial)

    def view(self, name: str, tensor: torch.Tensor) -> dict[str, Any] | None:
        """Copy the span of storage that a tensor touches and say how it addresses it; `name` is said where it cannot be."""
        if tensor.numel() == 0 or tensor.dim() > 6 or tensor.dtype not in SAFETENSORS_TYPES:
            self._left_out.append(name)
            return None
        shaped = tensor if tensor.dim() > 0 else tensor.reshape(1)
        first = int(shaped.storage_offset())
        place = f"+{first}" if first else ""
        located = self._copy(name, shaped, {place: (first, reach(shaped.shape, shaped.stride()))})
        if located is None:
            return None
        return located | {"shape": list(shaped.shape), "strides": list(shaped.stride()), "offset": first}

    def pages(
        self,
        name: str,
        tensor: torch.Tensor,
        *,
        layout: str,
        pages: Sequence[int],
        role: str,
        by: str | None = None,
        scale: float | None = None,
        shard: Part | None = None,
    ) -> None:
        """
        Record pages of a KV cache as their writer (role "output", after its write) or reader ("input") addressed them.
        `tensor`: [page, slot, head, channel] for layout "NHD", [page, head, slot, channel] for "HND", of any strides.
        """
        if layout not in ("NHD", "HND") or tensor.dim() != 4:
            raise ValueError(f'{name}: expected four axes in layout "NHD" or "HND", found {tensor.dim()} in {layout!r}')
        if tensor.numel() == 0 or tensor.dtype not in SAFETENSORS_TYPES:
            self._left_out.append(name)
            return
        slot, head = (1, 2) if layout == "NHD" else (2, 1)
        sizes, strides = tensor.shape, tensor.stride()
        offset = int(tensor.storage_offset())
        # A page of its own has no stride to the next one: torch may say anything.
        page_stride = strides[0] if sizes[0] > 1 else max(strides[0], reach(sizes[1:], strides[1:]))
        before, within = divmod(offset, page_stride) if page_stride else (0, offset)
        available = tensor.untyped_storage().nbytes() // tensor.dtype.itemsize
        span = max(within + reach(sizes[1:], strides[1:]), page_stride)
        starts = {page + before: (page + before) * page_stride for page in pages}
        stretches = {f"/p{page}": (first, min(span, available - first)) for page, first in starts.items()}
        view = self._copy(name, tensor, stretches)
        if view is None:
            return
        view |= {"layout": layout, "page_size": sizes[slot], "heads": sizes[head], "head_dim": sizes[3], "offset": offset}
        view |= {"strides": [page_stride, strides[slot], strides[head], strides[3]], "pages": list(pages)}
        if scale is not None:
            view["scale"] = float(scale)
        self._add(name, role, by, view, shard, None)

    def _copy(self, name: str, tensor: torch.Tensor, stretches: dict[str, tuple[int, int]]) -> dict[str, Any] | None:
        """Copy stretches of a storage under the end of their tensors' names; None where there is no room or no copying."""
        size = sum(elements for _, elements in stretches.values()) * tensor.dtype.itemsize
        # While a CUDA graph is captured nothing may be copied to the CPU.
        capturing = tensor.is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing or self.size + size > self._writer.room():
            self._left_out.append(name)
            return None
        storage, epoch, spans = self._writer.storages.copy(tensor, list(stretches.values()), self.number)
        storage = self._name_for(storage, epoch, stretches)
        for place, span in zip(stretches, spans):
            key = f"{storage}@{epoch}{place}"
            self._begins[key] = stretches[place][0]
            known = self.spans.get(key)
            # Views that begin at one element share the bytes of the longest.
            if known is None or known.data.nbytes < span.data.nbytes:
                self.size += span.data.nbytes - (known.data.nbytes if known else 0)
                self.spans[key] = span
        return {"storage": storage, "epoch": epoch, "dtype": type_name(tensor.dtype)}

    def _name_for(self, storage: str, epoch: int, stretches: dict[str, tuple[int, int]]) -> str:
        """
        The storage's name, or another one where views take pages of other sizes from it: page 5 of one then begins elsewhere
        than page 5 of the other.
        """
        name, count = storage, 0
        while any(self._begins.get(f"{name}@{epoch}{place}", first) != first for place, (first, _) in stretches.items()):
            count += 1
            name = f"{storage}.{count}"
        return name

    def _add(
        self, name: str, role: str, by: str | None, view: dict[str, Any], shard: Part | None, partial: Part | None
    ) -> None:
        event: dict[str, Any] = {"event": "value", "step": self.number, "name": name, "role": role}
        if by is not None:
            event["by"] = by
        if shard is not None:
            event["shard"] = shard
        if partial is not None:
            event["partial"] = partial
        self._values.append(event | {"view": view})

    def events(self) -> bytes | None:
        """The step's lines of events.jsonl; None when nobody said which rows it computed."""
        from .writer import encode

        if self._rows is None:
            return None
        rows = {"event": "step", "step": self.number} | self._rows
        if self._left_out:
            rows["left_out"] = sorted(set(self._left_out))
        return b"".join(encode(event) for event in [rows, *self._values])

    def finish(self) -> None:
        """End the step and write it."""
        self._writer.write(self)
        self.spans = {}

    def __enter__(self) -> Step:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()


def reach(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to the last that a view of this shape touches."""
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
