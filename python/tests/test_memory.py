"""What is recorded is what lay in memory: strides, storages and bytes, at the moment it was told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faultline
from faultline.tensor_file import SAFETENSORS_TYPES


def read(path: Path) -> dict[str, torch.Tensor]:
    """A safetensors file, by its definition."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    types = {name: dtype for dtype, name in SAFETENSORS_TYPES.items()}
    body = data[8 + length :]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(bytearray(body[begin:end]), dtype=types[entry["dtype"]])
        assert list(tensors[name].shape) == entry["shape"]
    return tensors


class Recorded:
    """One step, written and read again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer = faultline.CaptureWriter(folder)
        self.step = self.writer.step()
        self.step.rows(seq_ids=[0], token_ids=[1, 2, 3], qo_indptr=[0, 3])

    def views(self) -> list[dict[str, Any]]:
        self.step.finish()
        self.writer.close()
        events = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        return [event["view"] for event in events if event["event"] == "value"]

    def bytes_of(self, view: dict[str, Any]) -> torch.Tensor:
        tensors = read(self.folder / "step-00000.safetensors")
        name = f"{view['storage']}@{view['epoch']}"
        return tensors[f"{name}+{view['offset']}"] if view["offset"] else tensors[name]

    def tensor(self, view: dict[str, Any]) -> torch.Tensor:
        return self.bytes_of(view).as_strided(view["shape"], view["strides"])


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "run")


VIEWS = {
    "strided": lambda x: x[::2, 1::3],
    "transposed": lambda x: x.t(),
    "a column slice": lambda x: x[:, 5:9],
    "permuted heads": lambda x: x.view(6, 3, 4).permute(1, 2, 0),
    "expanded": lambda x: x[:1].expand(4, 12),
    "overlapping windows": lambda x: x.as_strided((5, 8), (3, 1), 2),
    "a scalar": lambda x: x[2, 3],
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool], ids=str)
@pytest.mark.parametrize("kind", VIEWS)
def test_views_survive_as_they_lie(recorded: Recorded, kind: str, dtype: torch.dtype) -> None:
    storage = torch.arange(72).reshape(6, 12).to(torch.float32).to(dtype)
    view = VIEWS[kind](storage)
    recorded.step.value("x", view)
    (event,) = recorded.views()
    shaped = view.reshape(1) if view.dim() == 0 else view
    assert (event["shape"], event["offset"]) == (list(shaped.shape), view.storage_offset())
    assert event["strides"] == list(shaped.stride())
    read_again = recorded.tensor(event)
    assert torch.equal(read_again.contiguous().view(torch.uint8), shaped.contiguous().view(torch.uint8))
    # What lies between the elements is evidence too, and nothing beyond them is taken.
    span = 1 + sum((size - 1) * stride for size, stride in zip(shaped.shape, shaped.stride()))
    between = storage.as_strided((span,), (1,), view.storage_offset())
    assert torch.equal(recorded.bytes_of(event).view(torch.uint8), between.clone().view(torch.uint8))


def test_aliases_share_a_storage(recorded: Recorded) -> None:
    fused = torch.randn(3, 24)
    recorded.step.value("q", fused[:, :16])
    recorded.step.value("k", fused[:, 16:])
    recorded.step.value("q", fused[:, :16].view(3, 4, 4).transpose(0, 1), role="input", by="attention")
    recorded.step.value("other", torch.randn(3, 24))
    q, k, read_q, other = recorded.views()
    assert q["storage"] == k["storage"] == read_q["storage"] != other["storage"]
    assert q["epoch"] == k["epoch"] == read_q["epoch"]
    assert torch.equal(recorded.tensor(k), fused[:, 16:])
    assert len(read(recorded.folder / "step-00000.safetensors")) == 3


def test_what_is_overwritten_after_use_was_copied_before(recorded: Recorded) -> None:
    buffer = torch.randn(3, 8)
    first = buffer.clone()
    recorded.step.value("norm", buffer)
    buffer.mul_(2)
    recorded.step.value("norm", buffer, role="input", by="q_proj")
    buffer.zero_()
    written, seen = recorded.views()
    assert written["storage"] == seen["storage"]
    assert written["epoch"] < seen["epoch"]
    assert torch.equal(recorded.tensor(written), first)
    assert torch.equal(recorded.tensor(seen), first * 2)


def test_memory_taken_again_is_another_storage(recorded: Recorded) -> None:
    addresses = set()
    for index in range(16):
        value = torch.full((1024,), float(index))
        addresses.add(value.data_ptr())
        recorded.step.value(f"x{index}", value)
        del value
    views = recorded.views()
    assert len(addresses) < 16, "the allocator was expected to give memory again"
    assert len({view["storage"] for view in views}) == 16


@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_pages_of_a_combined_cache(recorded: Recorded, layout: str) -> None:
    slots_heads = (4, 2) if layout == "NHD" else (2, 4)
    cache = torch.randn(5, 2, *slots_heads, 8)
    for side in (0, 1):
        recorded.step.pages(f"c{side}", cache[:, side], layout=layout, pages=[3, 1], role="input", by="attention")
    tensors = None
    for side, view in enumerate(recorded.views()):
        tensors = tensors or read(recorded.folder / "step-00000.safetensors")
        assert (view["page_size"], view["heads"], view["head_dim"], view["pages"]) == (4, 2, 8, [3, 1])
        for page in view["pages"]:
            before, within = divmod(view["offset"], view["strides"][0])
            held = tensors[f"{view['storage']}@{view['epoch']}/p{page + before}"]
            strides = view["strides"][1:]
            meant = cache[page, side] if layout == "NHD" else cache[page, side].transpose(0, 1)
            assert torch.equal(held.as_strided((4, 2, 8), strides, within), meant)


def test_padded_batches_are_never_gathered(recorded: Recorded) -> None:
    padded = torch.randn(2, 4, 8)
    recorded.step.rows(seq_ids=[0, 1], token_ids=[1, 2, 3, 4, 5], qo_indptr=[0, 1, 5], padded=[2, 4], row_map=[3, 4, 5, 6, 7])
    recorded.step.value("norm", padded)
    (view,) = recorded.views()
    assert view["shape"] == [2, 4, 8]
    assert np.array_equal(recorded.tensor(view).numpy(), padded.numpy())
