"""Recording without touching code: what environment variables ask for."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .recording import Recording, record
from .writer import DEFAULT_MAX_BYTES


@dataclass(frozen=True)
class Settings:
    """What FAULTLINE_RECORD and its companions say: the arguments of `record`."""

    directory: Path
    layers: str | None = None
    steps: str | None = None
    names: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    keep: str = "oldest"

    @staticmethod
    def from_environment() -> Settings | None:
        """
        The settings of this process; None where FAULTLINE_RECORD does not name a folder.
        @raises ValueError when FAULTLINE_MAX_BYTES is no number.
        """
        directory = os.environ.get("FAULTLINE_RECORD")
        if not directory:
            return None
        limit = os.environ.get("FAULTLINE_MAX_BYTES") or str(DEFAULT_MAX_BYTES)
        if not limit.isdigit():
            raise ValueError(f"FAULTLINE_MAX_BYTES: expected a number of bytes, found {limit!r}")
        layers, steps, names = (os.environ.get(f"FAULTLINE_{name}") or None for name in ("LAYERS", "STEPS", "NAMES"))
        keep = os.environ.get("FAULTLINE_KEEP") or "oldest"
        return Settings(Path(directory), layers, steps, names, int(limit), keep)

    def of_model(self, number: int) -> Path:
        """The folder of the process's so many-th model: the first one has the folder itself, others one beside it."""
        return self.directory if number == 0 else self.directory.with_name(f"{self.directory.name}.{number + 1}")


def record_loaded_models(settings: Settings) -> None:
    """Record every causal language model that transformers loads from now on, until the process ends."""
    from transformers import GenerationMixin, modeling_utils

    # A class of which nothing is known but what is used here.
    pretrained: Any = modeling_utils.PreTrainedModel
    recordings: list[Recording] = []
    load: Callable[..., Any] = pretrained.from_pretrained.__func__

    @functools.wraps(load)
    def from_pretrained(kind: type, *arguments: Any, **options: Any) -> Any:
        loaded = load(kind, *arguments, **options)
        model: Any = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(model, torch.nn.Module) and isinstance(model, GenerationMixin):
            recordings.append(
                record(
                    model,
                    settings.of_model(len(recordings)),
                    layers=settings.layers,
                    steps=settings.steps,
                    names=settings.names,
                    max_bytes=settings.max_bytes,
                    keep=settings.keep,
                ).start()
            )
        return loaded

    def stop() -> None:
        for recording in recordings:
            recording.stop()

    pretrained.from_pretrained = classmethod(from_pretrained)
    atexit.register(stop)
