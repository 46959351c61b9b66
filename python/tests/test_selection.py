"""What is asked for is what is recorded, in code and by the environment, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load

import faultline
from faultline.selection import Selection


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {event["name"] for event in events(folder) if event["event"] == "value"}


def test_layers_steps_and_names(tiny: Path, tmp_path: Path) -> None:
    model, run = load(tiny), tmp_path / "run"
    with faultline.record(model, run, layers="1", steps="1:3", names="*.self_attn.*,lm_head,!*_cache"):
        tokens = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=5, do_sample=False)
    assert "model.layers.1.self_attn.q_rope" in names(run)
    assert all(name == "lm_head" or name.startswith("model.layers.1.self_attn.") for name in names(run))
    assert not any(name.endswith("_cache") for name in names(run))
    assert {event["step"] for event in events(run) if event["event"] == "value"} == {1, 2}
    # Tokens of the step before are known; after the last step nothing is observed any more.
    assert [event["step"] for event in events(run) if event["event"] == "step"] == [0, 1, 2]
    samples = [event["token_ids"] for event in events(run) if event["event"] == "sample"]
    assert samples == [[token] for token in tokens[0, 3:6].tolist()]


def test_nothing_is_left_behind(tiny: Path, tmp_path: Path) -> None:
    from transformers.cache_utils import Cache
    from transformers.modeling_utils import AttentionInterface

    model = load(tiny)
    before = [dict(vars(module)) for module in model.modules()]
    patched = (Cache.update, AttentionInterface.get_interface, torch.distributed.all_reduce)
    with pytest.raises(ZeroDivisionError), faultline.record(model, tmp_path / "run"):
        model(torch.tensor([[1, 2]]))
        raise ZeroDivisionError
    assert (Cache.update, AttentionInterface.get_interface, torch.distributed.all_reduce) == patched
    for module, attributes in zip(model.modules(), before):
        assert vars(module).keys() == attributes.keys()
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_failing_recorder_leaves_the_run_alone(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = load(tiny), torch.tensor([[1, 2, 3]])
    expected = model(ids).logits

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(faultline.Step, "value", fail)
    with faultline.record(model, tmp_path / "run"):
        with pytest.warns(UserWarning, match="faultline stopped recording: OSError: no space left"):
            assert torch.equal(model(ids).logits, expected)
        assert torch.equal(model(ids).logits, expected)


def test_the_environment_asks_for_a_recording(tiny: Path, tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(
        "import sys, torch\nfrom transformers import AutoModelForCausalLM\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)\n"
        "model(torch.tensor([[1, 2, 3]]))\n"
    )
    asked = {"FAULTLINE_RECORD": str(tmp_path / "run"), "FAULTLINE_LAYERS": "0", "FAULTLINE_NAMES": "*.mlp,model.norm"}
    environment = os.environ | asked | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "faultline", str(script), str(tiny)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    assert names(tmp_path / "run") == {"model.layers.0.mlp", "model.norm"}


@pytest.mark.parametrize("given", [{"layers": "3-1"}, {"layers": "a"}, {"layers": ""}, {"steps": "x:"}, {"steps": ""}])
def test_arguments_that_say_nothing_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Selection(**given)
