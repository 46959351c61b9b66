"""`faultline.record`: one line around a run."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Protocol

import torch

from .ranks import current_ranks, process_rank
from .selection import Selection
from .writer import DEFAULT_MAX_BYTES, CaptureWriter, device_name

#: Axis orders of values that transformers hands to attention.
_DIMS = {"*.q_rope": "b h t d", "*.k_rope": "b h t d", "*.v_proj": "b h t d"}


class _Recorder(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Recording:
    """A recording under way: a context manager, or `start()` and `stop()`."""

    def __init__(self, writer: CaptureWriter, recorder: _Recorder) -> None:
        self.writer = writer
        self._recorder = recorder

    def start(self) -> Recording:
        """Begin to record."""
        self._recorder.start()
        return self

    def stop(self) -> None:
        """Leave the model as it was, and end the recording."""
        self._recorder.stop()
        self.writer.close()

    def __enter__(self) -> Recording:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def record(
    model: torch.nn.Module,
    directory: str | os.PathLike[str],
    *,
    layers: str | None = None,
    steps: str | None = None,
    names: str | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    keep: str = "oldest",
) -> Recording:
    """
    Record what a Hugging Face decoder computes within a `with` block into `directory`, a new or empty folder:

        with faultline.record(model, "run/", layers="0-3,27", steps="0:8"):
            model.generate(**inputs)

    `layers` such as "0-3,27" (both ends included), values outside the layers always; `steps` such as "0:8" (the end
    excluded), a step being one forward pass; `names` globs of values such as "*.mlp*,!*_cache". At most `max_bytes` are
    kept, of the "oldest" or the "newest" steps. Ranks of a distributed run write to `directory`/rank0, rank1, …
    Results are those of the run without a recorder; after the block nothing of it is left on the model.
    @raises ValueError when an argument says nothing, FileExistsError when the folder is not empty.
    """
    from .huggingface import ModelRecorder

    selection = Selection(layers, steps, names)
    config: Any = getattr(model, "config", None)
    if config is None or not hasattr(config, "to_json_string"):
        raise ValueError(f"model: expected a transformers model with a config, found {type(model).__name__}")
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    ranks, rank = current_ranks(model, text_config), process_rank()
    writer = CaptureWriter(
        directory if rank is None else Path(directory) / f"rank{rank}",
        model=json.loads(config.to_json_string(use_diff=False)),
        runtime=_runtime(model, config),
        dims=_DIMS,
        rank=ranks.rank if ranks else None,
        world=ranks.world if ranks else None,
        max_bytes=max_bytes,
        keep=keep,
    )
    recorder = ModelRecorder(model, writer, selection, ranks)
    if recorder.compiled:
        writer.note(compiled=recorder.compiled)
    return Recording(writer, recorder)


def _runtime(model: torch.nn.Module, config: Any) -> dict[str, Any]:
    import transformers

    parameter = next(model.parameters())
    return {
        "name": "transformers",
        "version": transformers.__version__,
        "device": device_name(parameter.device)[:200],
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "attention": getattr(config, "_attn_implementation", None),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }
