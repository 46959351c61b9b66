"""Small models to record, and a process that diagnoses what was recorded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import start_processes

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models" / "ishmael-7m"
MIXTURE = ROOT / "test" / "golden" / "moe" / "qwen3_moe"
Diagnose = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The same order of summation with and without a recorder, and no threads that fight over two cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers whose faults show."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"head_dim": 16, "num_attention_heads": 8, "num_key_value_heads": 4}
    torch.manual_seed(17)
    model = AutoModelForCausalLM.from_config(Qwen3Config(**sizes, **heads, tie_word_embeddings=False), dtype=torch.float32)
    for name, parameter in model.named_parameters():
        spread = 0.2 if parameter.dim() == 1 else 1.5 / parameter.shape[1] ** 0.5
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        torch.nn.init.uniform_(parameter, centre - spread, centre + spread)
    folder = tmp_path_factory.mktemp("model")
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def load(folder: Path, attention: str = "sdpa", **options: Any) -> Any:
    """The model of a folder, ready to run in bfloat16."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention, **options)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model.eval()


@pytest.fixture(scope="session")
def diagnose() -> Iterator[Diagnose]:
    """Returns the verdict on the run of all the targets, of one process for the session."""
    command = ["node", str(ROOT / "python" / "tests" / "verdicts.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        asked, told = process.stdin, process.stdout

        def run(model: Path, *targets: Path) -> dict[str, Any]:
            options = {"target": [str(target) for target in targets], "model": str(model)}
            print(json.dumps(options), file=asked, flush=True)
            line = told.readline()
            assert line, "no verdict: why is on standard error"
            verdict: dict[str, Any] = json.loads(line)
            return verdict

        yield run
        asked.close()


def forked(work: Callable[..., None], *arguments: Any, processes: int = 1) -> None:
    """
    Runs `work(number, *arguments)` in copies of this process, which may change what they like and have nothing to import again.
    @raises ProcessException where one fails.
    """
    start_processes(work, arguments, processes, start_method="fork")


def causes(verdict: dict[str, Any]) -> list[str]:
    """The causes a verdict names."""
    return [cause["cause"] for cause in verdict["causes"]]
