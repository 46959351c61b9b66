"""
The cases of cases/flashinfer with the stand-in for FlashInfer that lies beside them: right runs are clean, faults are named.
What the real library's recordings give is told in cases/flashinfer/README.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, SHIPPED, Diagnose, forked
from safetensors.torch import load_file, save_file

CASES = ROOT / "cases" / "flashinfer"


@pytest.fixture(scope="session")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first layers of the shipped model."""
    folder, depth = tmp_path_factory.mktemp("shallow"), 4
    config = json.loads((SHIPPED / "config.json").read_text())
    config |= {"num_hidden_layers": depth, "layer_types": config["layer_types"][:depth]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").symlink_to(SHIPPED / "tokenizer.json")
    deeper = tuple(f"model.layers.{layer}." for layer in range(depth, 28))
    weights = load_file(str(SHIPPED / "model.safetensors"))
    kept = {name: weight for name, weight in weights.items() if not name.startswith(deeper)}
    save_file(kept, str(folder / "model.safetensors"))
    return folder


def record(_: int, name: str, layers: str, model: Path, out: Path) -> None:
    """What run.py does, though of these layers; in a process of its own, since its modules have names of one word."""
    sys.path.insert(0, str(CASES))
    cases = importlib.import_module("cases").CASES
    cases[name] = dataclasses.replace(cases[name], layers=layers)
    sys.argv = ["run.py", name, str(out), "--model", str(model), "--stand-in"]
    runpy.run_path(str(CASES / "run.py"), run_name="__main__")


def test_a_right_run_is_clean(shallow: Path, tmp_path: Path, diagnose: Diagnose) -> None:
    forked(record, "fused-ragged", "0-3", shallow, tmp_path)
    verdict = diagnose(shallow, tmp_path / "fused-ragged")
    assert verdict["verdict"] == "clean", verdict
    assert all(audit["pass"] for audit in verdict["audits"].values())


@pytest.mark.parametrize(
    ("name", "layers", "causes"),
    [
        ("exclamation-mark", "0-3", {"embedding-scaled", "residual-dropped", "additive-constant"}),
        ("combined-split", "0-1", {"stride-mismatch"}),
        ("indices-long", "0-1", {"dtype-bits"}),
        # What these do is the same in every layer, and takes long to explain.
        ("plan-stale", "0", {"page-table-stale"}),
        ("cached-unrotated", "0", {"cached-before-rope"}),
        ("key-unrotated", "0", {"key-unrotated"}),
    ],
)
def test_a_fault_is_named(
    name: str, layers: str, causes: set[str], shallow: Path, tmp_path: Path, diagnose: Diagnose
) -> None:
    forked(record, name, layers, shallow, tmp_path)
    verdict = diagnose(shallow, tmp_path / name)
    assert {cause["cause"] for cause in verdict["causes"]} == causes
    assert all(finding["cause"] is not None for finding in verdict["findings"])


@pytest.fixture()
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in as the module `flashinfer`."""
    monkeypatch.syspath_prepend(str(CASES / "stand_in"))
    yield importlib.import_module("flashinfer")
    for name in [name for name in sys.modules if name == "flashinfer" or name.startswith("flashinfer.")]:
        del sys.modules[name]


def test_install_reaches_names_that_were_imported_before_and_uninstall_gives_them_back(library: Any) -> None:
    import faultline.flashinfer

    importer = sys.modules[__name__]
    original = library.rmsnorm
    setattr(importer, "early", original)
    plan = library.BatchDecodeWithPagedKVCacheWrapper.plan
    faultline.flashinfer.install()
    faultline.flashinfer.install()
    try:
        assert library.rmsnorm is not original
        assert getattr(importer, "early") is library.rmsnorm
        wrapper = library.BatchDecodeWithPagedKVCacheWrapper
        assert wrapper.begin_forward is wrapper.plan is not plan
    finally:
        faultline.flashinfer.uninstall()
    assert library.rmsnorm is getattr(importer, "early") is original
    assert library.BatchDecodeWithPagedKVCacheWrapper.begin_forward is plan


def test_a_page_table_is_recorded_as_the_kernel_reads_it(library: Any) -> None:
    from faultline.flashinfer_attention import page_table

    wrapper = library.BatchPrefillWithPagedKVCacheWrapper(torch.zeros(16, dtype=torch.uint8))
    int32 = {"dtype": torch.int32}
    indices = torch.tensor([7, 9, 4])  # int64
    arrays = (torch.tensor([0, 2], **int32), torch.tensor([0, 3], **int32), indices, torch.tensor([1], **int32))
    wrapper.plan(*arrays, 4, 2, 64, 8, q_data_type=torch.bfloat16)
    table, types = page_table(wrapper, {"qo_indptr": arrays[0]}, page_size=8)
    assert table.kv_indices == [7, 0, 9]
    assert types["indices"] == "int64"
    assert table.qo_indptr == [0, 2]
    assert table.lengths() == [17]


def test_nothing_is_observed_and_results_are_the_same_without_a_recording(library: Any) -> None:
    import faultline.flashinfer

    x, weight = torch.randn(3, 8).bfloat16(), torch.ones(8).bfloat16()
    before = library.rmsnorm(x, weight)
    faultline.flashinfer.install()
    try:
        assert torch.equal(library.rmsnorm(x, weight), before)
    finally:
        faultline.flashinfer.uninstall()
