"""faultline.vllm against a stand-in of vLLM's forward context and attention layer, written from the source of vLLM 0.33."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Diagnose
from serving_model import ServedModel, attend
from torch import nn

import faultline.vllm

SLOTS = 4


class Context:
    """vllm.forward_context."""

    current: Any = None


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ModuleType("vllm.forward_context")
    context.is_forward_context_available = lambda: Context.current is not None  # type: ignore[attr-defined]
    context.get_forward_context = lambda: Context.current  # type: ignore[attr-defined]
    library = ModuleType("vllm")
    library.__version__ = "stand-in"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", library)
    monkeypatch.setitem(sys.modules, "vllm.forward_context", context)
    Context.current = None


class Attention(nn.Module):
    """Appends and attends. The cache: [blocks, key heads, slots, keys and values of a head]."""

    def __init__(self, layer: int, sizes: Any) -> None:
        super().__init__()
        self.layer_name = f"model.layers.{layer}.self_attn.attn"
        self.num_kv_heads, self.head_size = sizes.key_heads, sizes.width
        self.attn_backend = SimpleNamespace(get_name=lambda: "FLASH_ATTN")
        self.kv_cache = torch.zeros(12, sizes.key_heads, SLOTS, 2 * sizes.width, dtype=torch.bfloat16)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        metadata = Context.current.attn_metadata[self.layer_name]
        slots = self.kv_cache.transpose(1, 2)
        for row, slot in enumerate(metadata.slot_mapping.tolist()):
            slots[slot // SLOTS, slot % SLOTS, :, : self.head_size] = k[row].view(self.num_kv_heads, -1)
            slots[slot // SLOTS, slot % SLOTS, :, self.head_size :] = v[row].view(self.num_kv_heads, -1)
        keys, values = [], []
        for blocks, length in zip(metadata.block_table.tolist(), metadata.seq_lens.tolist()):
            held = slots[blocks].flatten(0, 1)[:length]
            keys.append(held[..., : self.head_size])
            values.append(held[..., self.head_size :])
        return attend(q, keys, values, metadata.query_start_loc.tolist(), self.head_size)


def serve(model: ServedModel, slot_shift: int = 0, length_shift: int = 0) -> None:
    """Two sequences: prompts of 6 and 3 tokens, then 3 steps of a token each."""
    tables = [[5, 2, 9], [7, 1, 3]]
    tokens = [[11, 5, 90, 33, 7, 64], [40, 3, 77]]
    past = [0, 0]
    with torch.no_grad():
        for step in range(4):
            bounds = [0, len(tokens[0]), len(tokens[0]) + len(tokens[1])]
            places = [(b, past[b] + i) for b in (0, 1) for i in range(len(tokens[b]))]
            shift = slot_shift if step > 0 else 0
            slots = [tables[b][place // SLOTS] * SLOTS + place % SLOTS + shift for b, place in places]
            lengths = [past[b] + len(tokens[b]) - (length_shift if step > 0 else 0) for b in (0, 1)]
            metadata = SimpleNamespace(
                query_start_loc=torch.tensor(bounds),
                seq_lens=torch.tensor(lengths),
                block_table=torch.tensor(tables),
                slot_mapping=torch.tensor(slots),
            )
            layers = {layer.self_attn.attn.layer_name: metadata for layer in model.model.layers}
            Context.current = SimpleNamespace(attn_metadata=layers, cudagraph_runtime_mode=SimpleNamespace(name="NONE"))
            ids = torch.tensor(tokens[0] + tokens[1])
            hidden = model(ids, torch.tensor([place for _, place in places]))
            logits = model.compute_logits(hidden[torch.tensor(bounds[1:]) - 1])
            past = [past[b] + len(tokens[b]) for b in (0, 1)]
            tokens = [[int(token)] for token in logits.argmax(-1)]
    Context.current = None


def test_a_right_run_of_the_stand_in_is_clean(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, Attention)
    with faultline.vllm.start(model, str(tmp_path / "run")):
        serve(model)
    verdict = diagnose(tiny, tmp_path / "run")
    assert verdict["verdict"] == "clean", verdict
    assert all(audit["pass"] for audit in verdict["audits"].values())


def test_warming_up_is_no_step(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, Attention)
    with faultline.vllm.start(model, str(tmp_path / "run"), steps="0") as run:
        Context.current = SimpleNamespace(attn_metadata=None)
        with pytest.raises(TypeError):
            model(torch.tensor([1]), torch.tensor([0]))
        serve(model)
        assert run.under_way is None
    assert len((tmp_path / "run" / "events.jsonl").read_text().split('"event":"step"')) == 2


def test_slots_of_other_tokens_are_named(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, Attention)
    with faultline.vllm.start(model, str(tmp_path / "run")):
        serve(model, slot_shift=1)
    verdict = diagnose(tiny, tmp_path / "run")
    assert "slot-mapping" in [cause["cause"] for cause in verdict["causes"]], verdict


def test_lengths_from_before_the_new_token_are_named(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, Attention)
    with faultline.vllm.start(model, str(tmp_path / "run")) as run:
        serve(model, length_shift=1)
        assert run.next_sequence == 2
    verdict = diagnose(tiny, tmp_path / "run")
    assert "last-page-length" in [cause["cause"] for cause in verdict["causes"]], verdict


def test_the_plug_in_records_what_the_environment_says(
    tiny: Path, tmp_path: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr("faultline.engine_plugin.close_at_exit", runs.append)
    monkeypatch.setenv("FAULTLINE_RECORD", str(tmp_path / "run"))
    monkeypatch.setenv("FAULTLINE_LAYERS", "0")
    faultline.vllm.register()
    serve(ServedModel(tiny, Attention))
    runs[0].close()
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert events.count('"event":"step"') == 4
    assert "layers.0.self_attn.q_rope" in events and "layers.1." not in events.split('"attention"')[0]


@pytest.mark.parametrize(
    ("shape", "backend", "layout"),
    [
        ((2, 7, 4, 3, 8), None, "NHD"),
        ((7, 2, 4, 3, 8), None, "NHD"),
        ((7, 2, 3, 4, 8), None, "HND"),
        ((7, 3, 4, 16), "FLASH_ATTN", "HND"),
        ((7, 3, 4, 16), "CPU_ATTN", "HND"),
    ],
)
def test_caches_of_every_layout_are_seen_without_a_copy(shape: tuple[int, ...], backend: str | None, layout: str) -> None:
    cache = torch.arange(torch.Size(shape).numel()).view(shape)
    found = faultline.vllm.cache_views(cache, heads=3, width=8, backend=backend)
    assert found is not None
    keys, values, said = found
    assert said == layout
    assert keys.shape == values.shape == ((7, 4, 3, 8) if layout == "NHD" else (7, 3, 4, 8))
    assert keys.untyped_storage().data_ptr() == cache.untyped_storage().data_ptr()
    assert not set(keys.flatten().tolist()) & set(values.flatten().tolist())
