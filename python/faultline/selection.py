"""What to record: layers, steps and names, as text that a shell can pass on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")


@dataclass(frozen=True)
class Selection:
    """
    Which values are recorded. `layers`: such as "0-3,27" (both ends included), None for all; values outside the layers are
    always recorded. `steps`: such as "0:8" (the end excluded), "4:" or "3". `names`: globs such as "*.mlp*,!*_cache", of which
    one must fit and none behind a "!" may; None for all.
    """

    layers: str | None = None
    steps: str | None = None
    names: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_layers", None if self.layers is None else _numbers(self.layers))
        object.__setattr__(self, "_steps", None if self.steps is None else _range(self.steps))
        globs = [glob.strip() for glob in (self.names or "").split(",") if glob.strip()]
        object.__setattr__(self, "_wanted", [glob for glob in globs if not glob.startswith("!")] or ["*"])
        object.__setattr__(self, "_unwanted", [glob[1:] for glob in globs if glob.startswith("!")])

    def has_step(self, step: int) -> bool:
        """Whether values of this step are recorded."""
        bounds: tuple[int, int | None] | None = self._steps  # type: ignore[attr-defined]
        return bounds is None or (step >= bounds[0] and (bounds[1] is None or step < bounds[1]))

    def has_step_from(self, step: int) -> bool:
        """Whether values of this step or of a later one are recorded."""
        bounds: tuple[int, int | None] | None = self._steps  # type: ignore[attr-defined]
        return bounds is None or bounds[1] is None or step < bounds[1]

    def has_layer(self, layer: int) -> bool:
        """Whether values of this layer are recorded."""
        layers: frozenset[int] | None = self._layers  # type: ignore[attr-defined]
        return layers is None or layer in layers

    def has_name(self, name: str) -> bool:
        """Whether the value of this name is recorded, by its layer and the globs."""
        layer = layer_of(name)
        if layer is not None and not self.has_layer(layer):
            return False
        wanted: list[str] = self._wanted  # type: ignore[attr-defined]
        unwanted: list[str] = self._unwanted  # type: ignore[attr-defined]
        return any(fnmatchcase(name, glob) for glob in wanted) and not any(fnmatchcase(name, glob) for glob in unwanted)


def layer_of(name: str) -> int | None:
    """The layer that a value belongs to: 3 of "model.layers.3.mlp"; None outside the layers."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def _numbers(text: str) -> frozenset[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or (match.group(2) and int(match.group(2)) < int(match.group(1))):
            raise ValueError(f'layers: expected numbers and ranges such as "0-3,27", found {text!r}')
        numbers.update(range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1))
    return frozenset(numbers)


def _range(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"\s*(\d*)\s*(:?)\s*(\d*)\s*", text)
    if not match or not text.strip() or (not match.group(2) and not match.group(1)):
        raise ValueError(f'steps: expected a range such as "0:8", "4:" or "3", found {text!r}')
    first = int(match.group(1) or 0)
    if not match.group(2):
        return first, first + 1
    return first, int(match.group(3)) if match.group(3) else None
