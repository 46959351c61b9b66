"""A recording is bounded, and readable whenever it ends."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import torch

import faultline

KILLS = 100


def steps_of(folder: Path) -> list[int]:
    """Steps whose events and bytes are complete, as the format's readers take them."""
    complete = (folder / "events.jsonl").read_bytes().rpartition(b"\n")[0]
    found = []
    for line in complete.splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            found.append(event["step"])
        if event["event"] == "value":
            path = folder / f"step-{event['step']:05}.safetensors"
            data = path.read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            entry = header[f"{event['view']['storage']}@{event['view']['epoch']}"]
            assert 8 + int.from_bytes(data[:8], "little") + max(e["data_offsets"][1] for e in header.values()) == len(data)
            assert entry["shape"] == [4096]
    return found


def write_without_end(folder: Path) -> None:
    """Writes steps and, after each, its number into `progress`, for as long as somebody is there to kill it."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    writer = faultline.CaptureWriter(folder / "run", max_bytes=2**19, keep="newest")
    for number in itertools.takewhile(lambda _: tests.is_alive(), itertools.count()):
        with writer.step() as step:
            step.rows(seq_ids=[0], token_ids=[number], qo_indptr=[0, 1])
            for name in "abc":
                step.value(name, torch.full((4096,), float(number)))
        (folder / "progress.new").write_text(str(number))
        (folder / "progress.new").replace(folder / "progress")


def test_a_kill_loses_at_most_the_step_under_way(tmp_path: Path) -> None:
    """A process that writes without a pause is killed at a random moment, and another, and another."""
    draw = random.Random(7)
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        # A fork: torch need not be imported again.
        writer = multiprocessing.get_context("fork").Process(target=write_without_end, args=(folder,), daemon=True)
        writer.start()
        while not (folder / "progress").exists():
            assert writer.is_alive()
            time.sleep(0.001)
        time.sleep(draw.random() * 0.03)
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        kept = steps_of(folder / "run")
        assert kept == list(range(kept[0], kept[-1] + 1))
        assert kept[-1] - int((folder / "progress").read_text()) in (0, 1)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json")


@pytest.mark.parametrize("keep", ["oldest", "newest"])
def test_max_bytes(tmp_path: Path, keep: str) -> None:
    folder = tmp_path / "run"
    with faultline.CaptureWriter(folder, max_bytes=100_000, keep=keep) as writer:
        for number in range(20):
            with writer.step() as step:
                step.rows(seq_ids=[0], token_ids=[number], qo_indptr=[0, 1])
                step.value("a", torch.full((4096,), float(number)))
            writer.sample(number, [number])
            assert size_of(folder) <= 100_000
    kept = steps_of(folder)
    assert kept == (list(range(len(kept))) if keep == "oldest" else list(range(20 - len(kept), 20)))
    assert len(kept) >= 4
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recording"] == {"dropped_steps": 20 - len(kept), "max_bytes": 100_000, "keep": keep}


def test_a_step_larger_than_the_bound_says_what_was_left_out(tmp_path: Path) -> None:
    with faultline.CaptureWriter(tmp_path / "run", max_bytes=50_000) as writer:
        with writer.step() as step:
            step.rows(seq_ids=[0], token_ids=[1], qo_indptr=[0, 1])
            step.value("small", torch.zeros(4096))
            step.value("large", torch.zeros(2**20))
    event = json.loads((tmp_path / "run" / "events.jsonl").read_text().splitlines()[0])
    assert event["left_out"] == ["large"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a new or empty directory"):
        faultline.CaptureWriter(tmp_path)
