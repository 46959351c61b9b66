"""faultline.sglang against a stand-in of SGLang's RadixAttention, its pools and ForwardBatch, from the source of SGLang 0.5.23."""

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

import faultline.sglang


class Pools:
    """sglang.srt.model_executor.forward_context: keys and values of all layers by slot, slots of requests by position."""

    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    requests = SimpleNamespace(req_to_token=torch.zeros(0))

    @staticmethod
    def get_key_buffer(layer: int) -> torch.Tensor:
        return Pools.keys[layer]

    @staticmethod
    def get_value_buffer(layer: int) -> torch.Tensor:
        return Pools.values[layer]


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ModuleType("sglang.srt.model_executor.forward_context")
    context.get_token_to_kv_pool = lambda: Pools  # type: ignore[attr-defined]
    context.get_req_to_token_pool = lambda: Pools.requests  # type: ignore[attr-defined]
    library = ModuleType("sglang")
    library.__version__ = "stand-in"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sglang", library)
    monkeypatch.setitem(sys.modules, "sglang.srt.model_executor.forward_context", context)


class RadixAttention(nn.Module):
    def __init__(self, layer: int, sizes: Any) -> None:
        super().__init__()
        self.layer_id, self.heads, self.width = layer, sizes.key_heads, sizes.width

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, forward_batch: Any) -> torch.Tensor:
        keys, values = Pools.get_key_buffer(self.layer_id), Pools.get_value_buffer(self.layer_id)
        keys[forward_batch.out_cache_loc] = k.view(-1, self.heads, self.width)
        values[forward_batch.out_cache_loc] = v.view(-1, self.heads, self.width)
        table = faultline.sglang.page_table(forward_batch, Pools.requests)
        held = [table.kv_indices[a:b] for a, b in zip(table.kv_indptr, table.kv_indptr[1:])]
        return attend(q, [keys[slots] for slots in held], [values[slots] for slots in held], table.qo_indptr, self.width)


def serve(model: ServedModel, wrong_slot: bool = False) -> None:
    """Two requests: prompts of 5 and 2 tokens, then 3 steps of a token each. The model's forward is called past its hooks."""
    layers, heads, width = model.sizes.layers, model.sizes.key_heads, model.sizes.width
    Pools.keys = [torch.zeros(40, heads, width, dtype=torch.bfloat16) for _ in range(layers)]
    Pools.values = [torch.zeros(40, heads, width, dtype=torch.bfloat16) for _ in range(layers)]
    Pools.requests = SimpleNamespace(req_to_token=torch.zeros(4, 16, dtype=torch.int64))
    free = [(11 * slot + 3) % 40 for slot in range(40)]
    owners, tokens, past = [2, 0], [[11, 5, 90, 33, 7], [40, 3]], [0, 0]
    with torch.no_grad():
        for step in range(4):
            new = []
            for b, owner in enumerate(owners):
                for i in range(len(tokens[b])):
                    new.append(free.pop())
                    Pools.requests.req_to_token[owner, past[b] + i] = new[-1]
            if wrong_slot and step == 2:
                # The request's table keeps the slot of the token before.
                Pools.requests.req_to_token[2, past[0]] = Pools.requests.req_to_token[2, past[0] - 1]
            batch = SimpleNamespace(
                forward_mode=SimpleNamespace(is_idle=lambda: False, is_decode=lambda step=step: step > 0),
                out_cache_loc=torch.tensor(new),
                seq_lens=torch.tensor([past[b] + len(tokens[b]) for b in (0, 1)]),
                extend_seq_lens=torch.tensor([len(tokens[b]) for b in (0, 1)]) if step == 0 else None,
                req_pool_indices=torch.tensor(owners),
            )
            places = [past[b] + i for b in (0, 1) for i in range(len(tokens[b]))]
            hidden = model.forward(torch.tensor(tokens[0] + tokens[1]), torch.tensor(places), batch)
            lasts = torch.tensor([len(tokens[0]), len(tokens[0]) + len(tokens[1])]) - 1
            logits = model.compute_logits(hidden[lasts])
            past = [past[b] + len(tokens[b]) for b in (0, 1)]
            tokens = [[int(token)] for token in logits.argmax(-1)]


def test_a_right_run_of_the_stand_in_is_clean(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, RadixAttention)
    with faultline.sglang.start(model, str(tmp_path / "run")):
        serve(model)
    verdict = diagnose(tiny, tmp_path / "run")
    assert verdict["verdict"] == "clean", verdict
    assert all(audit["pass"] for audit in verdict["audits"].values())


def test_a_slot_of_another_token_in_the_table_is_named(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model = ServedModel(tiny, RadixAttention)
    with faultline.sglang.start(model, str(tmp_path / "run")):
        serve(model, wrong_slot=True)
    verdict = diagnose(tiny, tmp_path / "run")
    assert "page-table-wrong" in [cause["cause"] for cause in verdict["causes"]], verdict


def test_the_plug_in_asks_sglang_for_the_loaded_model(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: dict[str, Any] = {}
    registry = ModuleType("sglang.srt.plugins.hook_registry")
    registry.HookRegistry = SimpleNamespace(register=registered.__setitem__)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sglang.srt.plugins.hook_registry", registry)
    faultline.sglang.register()
    assert registered == {}
    monkeypatch.setenv("FAULTLINE_RECORD", str(tmp_path / "run"))
    runs: list[Any] = []
    monkeypatch.setattr("faultline.sglang.close_at_exit", runs.append)
    faultline.sglang.register()
    model = ServedModel(tiny, RadixAttention)
    registered["sglang.srt.model_executor.model_runner.ModelRunner.load_model"](None, SimpleNamespace(model=model))
    serve(model)
    runs[0].close()
    assert (tmp_path / "run" / "events.jsonl").read_text().count('"event":"step"') == 4
