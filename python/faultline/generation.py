"""What `generate()` knows and the model's forward does not: the padding of prompts, and the tokens that were sampled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from .sequences import Batch
from .writer import CaptureWriter


class Generation:
    """Follows a model's `generate()`."""

    def __init__(self, writer: CaptureWriter) -> None:
        self._writer = writer
        self._mask: torch.Tensor | None = None
        #: Passes of the generation under way: the step, its batch and the columns after it.
        self._steps: list[tuple[int, Batch, int]] | None = None
        self._prompt: int | None = None

    def observed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`generate`, and the tokens it sampled after each step recorded when it returns."""

        @functools.wraps(original)
        def generate(*arguments: Any, **options: Any) -> Any:
            self._steps, self._prompt, self._mask = [], None, None
            try:
                output = original(*arguments, **options)
                self._sampled(getattr(output, "sequences", output))
                return output
            finally:
                self._steps = self._mask = None

        return generate

    def preparing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`prepare_inputs_for_generation`, which knows the mask [sequences, columns] before it is made one of scores."""

        @functools.wraps(original)
        def prepare_inputs_for_generation(input_ids: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            if self._prompt is None:
                self._prompt = input_ids.shape[1]
            mask = options.get("attention_mask")
            self._mask = mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None
            return original(input_ids, *arguments, **options)

        return prepare_inputs_for_generation

    def mask_of(self, given: Any, tokens: torch.Tensor) -> torch.Tensor | None:
        """
        The padding of a pass, [sequences, columns so far] with 0 for padding; None where nothing is padded. `given`: the
        attention_mask that the model was given, of padding or of scores, or one for each kind of layer.
        """
        if isinstance(given, torch.Tensor) and given.dim() == 2:
            return given
        if self._mask is not None:
            return self._mask
        if isinstance(given, dict):
            given = given.get("full_attention")
        if isinstance(given, torch.Tensor) and given.dim() == 4 and given.shape[0] == tokens.shape[0]:
            seen = given if given.dtype == torch.bool else given > torch.finfo(given.dtype).min / 2
            return seen[:, 0].any(1)
        return None

    def computed(self, step: int, batch: Batch) -> None:
        """A pass was recorded."""
        if self._steps is not None:
            self._steps.append((step, batch, batch.columns))

    def _sampled(self, sequences: Any) -> None:
        """@param sequences the tokens that generate() returned, [sequences, columns]."""
        if not isinstance(sequences, torch.Tensor) or sequences.dim() != 2 or self._prompt is None:
            return
        for step, batch, columns in self._steps or []:
            if len(batch.seq_ids) == sequences.shape[0] and self._prompt <= columns < sequences.shape[1]:
                self._writer.sample(step, sequences[:, columns].tolist())
