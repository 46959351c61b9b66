"""Hooks and wrappers around a model that can be taken off and put on again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Puts an observer on; what it returns takes it off.
Attach = Callable[[], Callable[[], None]]


class Observers:
    """Observers of one model. None of them is there unless `on`."""

    def __init__(self) -> None:
        self._attach: list[Attach] = []
        self._detach: list[Callable[[], None]] = []

    def add(self, attach: Attach) -> None:
        """One more observer, put on by `on()`."""
        self._attach.append(attach)

    def on(self) -> None:
        """Put all observers on."""
        if not self._detach:
            self._detach = [attach() for attach in self._attach]

    def off(self) -> None:
        """Take all observers off, the last one first."""
        for detach in reversed(self._detach):
            detach()
        self._detach = []

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Within it no observer is on, so that compiled code is traced and run as without a recorder."""
        was_on = bool(self._detach)
        self.off()
        try:
            yield
        finally:
            if was_on:
                self.on()
