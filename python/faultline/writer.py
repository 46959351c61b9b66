"""Writes a capture directory (docs/capture-format.md): a step's bytes first, then the events that name them."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .step import Step
from .storages import Storages
from .tensor_file import write_tensor_file

#: Bytes a recording may take unless told otherwise.
DEFAULT_MAX_BYTES = 2 * 2**30


@dataclass(frozen=True)
class _Group:
    """A step on disk: its events and the bytes it takes, those of the events included."""

    step: int
    events: bytes
    size: int


class CaptureWriter:
    """
    Records a run into `directory`, a new or empty folder, step by step:

        writer = CaptureWriter("run/", runtime={"name": "my-engine"})
        with writer.step() as step:
            step.rows(seq_ids=[0], token_ids=[34, 453], qo_indptr=[0, 2])
            step.value("model.embed_tokens", hidden)

    A step is on disk when it ends, all of it or nothing: killed at any moment the recording keeps every step before. It
    never takes more than `max_bytes`: with `keep="oldest"` recording ends there, with `keep="newest"` the oldest steps are
    deleted. `model` is the config.json the run believes in; `runtime` says who runs it; `dims` as in the format. A run of
    several ranks gives `rank` and `world` (format version 2), and each rank its own directory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        model: Mapping[str, Any] | None = None,
        runtime: Mapping[str, Any] | None = None,
        dims: Mapping[str, str] | None = None,
        rank: int | None = None,
        world: int | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        keep: str = "oldest",
    ) -> None:
        if keep not in ("oldest", "newest"):
            raise ValueError(f'keep: expected "oldest" or "newest", found {keep!r}')
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self.keep = keep
        self.rank = rank
        self.storages = Storages("s" if rank is None else f"r{rank}s")
        self.next_step = 0
        #: Steps that are not in the recording because of `max_bytes`.
        self.dropped_steps = 0
        self._groups: deque[_Group] = deque()
        self._size = 0
        self._full = False
        self.directory.mkdir(parents=True, exist_ok=True)
        if any(self.directory.iterdir()):
            raise FileExistsError(f"{self.directory}: expected a new or empty directory for the recording")
        self.manifest: dict[str, Any] = {"format": "faultline-capture", "version": 1 if world is None else 2}
        if world is not None:
            self.manifest |= {"world": world, "rank": rank}
        self.manifest |= {"model": dict(model or {}), "runtime": dict(runtime or {}), "dims": dict(dims or {})}
        self._write_manifest()
        self._events = open(self.directory / "events.jsonl", "xb", buffering=0)

    @property
    def is_full(self) -> bool:
        """Whether `max_bytes` is used up and the oldest steps are kept: nothing more will be recorded."""
        return self._full

    def room(self) -> int:
        """Bytes that the step under way may take."""
        return self.max_bytes - (self._size if self.keep == "oldest" else 0)

    def step(self) -> Step:
        """Begin a step; it is written when its `with` block ends, or by `step.finish()`."""
        step = Step(self, self.next_step)
        self.next_step += 1
        self.storages.begin_step()
        return step

    def write(self, step: Step) -> None:
        """Put a finished step on disk, within `max_bytes`."""
        self.storages.end_step()
        events = step.events()
        if self._full or events is None:
            self.dropped_steps += events is not None
            return
        if self._size_of(step, events) > self.room():
            # What was dropped for lack of room is said in the step's own event.
            self._full = self.keep == "oldest"
            self.dropped_steps += 1
            return
        path = self.directory / f"step-{step.number:05}.safetensors"
        size = len(events) + (write_tensor_file(path, step.spans) if step.spans else 0)
        self._events.write(events)
        self._groups.append(_Group(step.number, events, size))
        self._size += size
        if self._size > self.max_bytes:
            self._drop_oldest()

    def sample(self, step: int, token_ids: Sequence[int]) -> None:
        """Record the tokens that were sampled from a step's logits, one per sequence; also after the step was written."""
        if self._full:
            return
        event: dict[str, Any] = {"event": "sample", "step": step, "token_ids": list(token_ids)}
        line = encode(event)
        self._events.write(line)
        self._size += len(line)
        if self._groups:
            last = self._groups.pop()
            self._groups.append(_Group(last.step, last.events + line, last.size + len(line)))

    def note(self, **facts: Any) -> None:
        """Add facts about the recording to the manifest's `recording`."""
        self.manifest.setdefault("recording", {}).update(facts)
        self._write_manifest()

    def order_axes(self, name: str, order: str) -> None:
        """Say the axis order of values, by exact name or "*" and its end: an entry of the manifest's `dims`."""
        if self.manifest["dims"].get(name) != order:
            self.manifest["dims"][name] = order
            self._write_manifest()

    def close(self) -> None:
        """End the recording."""
        if self._events.closed:
            return
        if self.dropped_steps:
            self.note(dropped_steps=self.dropped_steps, max_bytes=self.max_bytes, keep=self.keep)
        self._events.close()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _size_of(self, step: Step, events: bytes) -> int:
        # A header takes at most about this much for each tensor.
        return len(events) + step.size + 200 * len(step.spans) + 16

    def _drop_oldest(self) -> None:
        """Delete the oldest steps until the rest fits; the events are replaced in one go, before the files they name."""
        dropped: list[_Group] = []
        while self._size > self.max_bytes and len(self._groups) > 1:
            group = self._groups.popleft()
            self._size -= group.size
            dropped.append(group)
        self.dropped_steps += len(dropped)
        path = self.directory / "events.jsonl"
        rest = path.with_name("events.jsonl.unfinished")
        rest.write_bytes(b"".join(group.events for group in self._groups))
        os.replace(rest, path)
        self._events.close()
        self._events = open(path, "ab", buffering=0)
        for group in dropped:
            (self.directory / f"step-{group.step:05}.safetensors").unlink(missing_ok=True)

    def _write_manifest(self) -> None:
        path = self.directory / "manifest.json"
        unfinished = path.with_name("manifest.json.unfinished")
        unfinished.write_text(json.dumps(self.manifest, default=str))
        os.replace(unfinished, path)


def encode(event: Mapping[str, Any]) -> bytes:
    """One line of events.jsonl."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def device_name(device: torch.device) -> str:
    """A device as people know it: "cuda:0 (NVIDIA H100)" or "cpu"."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
