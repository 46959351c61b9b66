"""Runs of transformers' own code, recorded and diagnosed: correct ones are clean, and what is patched in is named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MIXTURE, ROOT, Diagnose, causes, forked, load

import faultline

LEFT = torch.tensor([[0, 0, 0, 0, 5, 9, 33], [0, 0, 7, 8, 21, 90, 4], [11, 12, 13, 14, 15, 16, 17]])
MASK = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1], [1] * 7])
Run = Callable[[Any], torch.Tensor]


def generate(tokens: int = 16, **options: Any) -> Run:
    return lambda model: model.generate(max_new_tokens=tokens, do_sample=False, **options)


def forward(**inputs: Any) -> Run:
    return lambda model: model(**inputs).logits


def recorded(model: Any, run: Run, out: Path) -> None:
    """Record a run and hold its result against the run without a recorder, before and after."""
    with torch.no_grad():
        before = run(model)
        with faultline.record(model, out):
            assert torch.equal(run(model), before)
        assert torch.equal(run(model), before)


def expect_clean(verdict: dict[str, Any]) -> None:
    assert verdict["verdict"] == "clean", verdict["summary"]
    assert verdict["recipes"]
    assert verdict["unchecked"] == []


def drop_residual(model: Any) -> None:
    """Layer 0 forgets `residual + attention`."""
    layer = model.model.layers[0]

    def without_residual(hidden: torch.Tensor, **options: Any) -> torch.Tensor:
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **options)
        out: torch.Tensor = attended + layer.mlp(layer.post_attention_layernorm(attended))
        return out

    layer.forward = without_residual


def test_one_prompt_with_a_dynamic_cache(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    model, run = load(tiny), generate(input_ids=LEFT[2:])
    recorded(model, run, tmp_path / "run")
    expect_clean(diagnose(tiny, tmp_path / "run"))
    model.model.layers[1].self_attn.scaling = 1.0
    recorded(model, generate(2, input_ids=LEFT[2:, :4]), tmp_path / "faulty")
    assert causes(diagnose(tiny, tmp_path / "faulty")) == ["softmax-scale"]


def test_prompts_padded_on_the_left_with_a_static_cache(
    tiny: Path, tmp_path: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tiny, "eager")
    run = generate(input_ids=LEFT, attention_mask=MASK, cache_implementation="static")
    recorded(model, run, tmp_path / "run")
    expect_clean(diagnose(tiny, tmp_path / "run"))
    from transformers.cache_utils import StaticLayer

    update = StaticLayer.update

    def forgetful(layer: Any, key: torch.Tensor, value: torch.Tensor, *rest: Any, **options: Any) -> Any:
        return update(layer, key, value * (int(layer.cumulative_length) != 9), *rest, **options)

    monkeypatch.setattr(StaticLayer, "update", forgetful)
    recorded(model, run, tmp_path / "faulty")
    assert causes(diagnose(tiny, tmp_path / "faulty")) == ["cache-unwritten"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts(
    tiny: Path, tmp_path: Path, diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    ids, mask = (LEFT, MASK) if side == "left" else (LEFT.flip(1), MASK.flip(1))
    model, run = load(tiny), forward(input_ids=ids, attention_mask=mask)
    recorded(model, run, tmp_path / "run")
    expect_clean(diagnose(tiny, tmp_path / "run"))
    if side == "left":
        from transformers.models.qwen3 import modeling_qwen3

        masked = modeling_qwen3.create_causal_mask
        monkeypatch.setattr(modeling_qwen3, "create_causal_mask", lambda **given: masked(**given | {"attention_mask": None}))
    else:
        drop_residual(model)
    recorded(model, run, tmp_path / "faulty")
    assert causes(diagnose(tiny, tmp_path / "faulty")) == ["padding-attended" if side == "left" else "residual-dropped"]


def test_compiled_layers(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    for faulty in (False, True):
        model, run = load(tiny), generate(2, input_ids=LEFT[2:, :4])
        if faulty:
            drop_residual(model)
        for layer in model.model.layers:
            layer.compile(backend="eager")
        out = tmp_path / f"run{faulty}"
        with pytest.warns(UserWarning, match="layers.1 is compiled: recorded are its borders"):
            recorded(model, run, out)
        verdict = diagnose(tiny, out)
        assert causes(verdict) == (["residual-dropped"] if faulty else []), verdict["summary"]
        assert verdict["verdict"] == ("fault" if faulty else "clean")


def test_mixture_of_experts(tmp_path: Path, diagnose: Diagnose) -> None:
    model, run = load(MIXTURE), generate(4, input_ids=LEFT[2:])
    recorded(model, run, tmp_path / "run")
    expect_clean(diagnose(MIXTURE, tmp_path / "run"))
    for layer in model.model.layers:
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.norm_topk_prob = False
    recorded(model, run, tmp_path / "faulty")
    assert causes(diagnose(MIXTURE, tmp_path / "faulty")) == ["routing-not-renormalised"]


def rank_of_two(rank: int, tiny: Path, out: Path) -> None:
    """One of two processes that share a model: a correct run, then one whose last rank's part of a sum is lost."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=(out / "meeting").as_uri(), rank=rank, world_size=2)
    sys.path.insert(0, str(ROOT / "scripts"))
    from record_tensor_parallel import Sharding

    for fault in (None, "rank-missing"):
        model = load(tiny)
        Sharding(model, rank, 2, fault)
        recorded(model, generate(3, input_ids=LEFT[2:]), out / str(fault))
    dist.destroy_process_group()


def test_two_ranks(tiny: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    forked(rank_of_two, tiny, tmp_path, processes=2)
    expect_clean(diagnose(tiny, tmp_path / "None" / "rank0", tmp_path / "None" / "rank1"))
    faulty = tmp_path / "rank-missing"
    assert causes(diagnose(tiny, faulty / "rank0", faulty / "rank1")) == ["reduction-incomplete"]
