"""Which token of which sequence stands where in a batch, and where a KV cache keeps its keys."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

#: Consecutive columns: the first and how many.
Run = tuple[int, int]


@dataclass
class Batch:
    """Sequences that go through the model together, one per row of a batch of [sequences, columns]."""

    seq_ids: list[int]
    #: Columns so far, those of padding included.
    columns: int
    #: Columns that hold tokens, of each sequence.
    runs: list[list[Run]]


class Pass:
    """One forward pass of the model under way."""

    def __init__(self, module: torch.nn.Module, tokens: torch.Tensor, cached: int, batch: Batch, cache: Any) -> None:
        self.module = module
        self.tokens = tokens
        self.cached = cached
        self.batch = batch
        self.cache = cache
        self.positions: torch.Tensor | None = None
        #: Slots of each sequence in the caches recorded so far.
        self.page_size: int | None = None
        #: How attention was called first.
        self.attention: dict[str, Any] = {}


class UnevenPaddingError(ValueError):
    """Padding between the tokens that one pass computes of a sequence: the format has no words for it."""


class Sequences:
    """Follows sequences over the steps of a run, by the cache they share."""

    def __init__(self) -> None:
        self._next_id = 0
        self._by_cache: dict[int, tuple[weakref.ref[Any], Batch]] = {}

    def forget(self, cache: object) -> None:
        """Somebody reordered or cut the cache: who is in it now is not known."""
        self._by_cache.pop(id(cache), None)

    def adopt(self, cache: object, batch: Batch) -> None:
        """The batch goes on in a cache that the model made for it."""
        self._by_cache[id(cache)] = (weakref.ref(cache), batch)

    def batch(self, cache: object | None, cached: int, tokens: torch.Tensor, mask: torch.Tensor | None) -> Batch:
        """
        The batch that a pass over `tokens` [sequences, columns] continues: the one whose `cached` columns lie in `cache`, or
        a new one. `mask` [sequences, cached + columns] is 0 at padding; None where nothing is padded.
        """
        count, columns = tokens.shape
        end = cached + columns
        known = self._known(cache)
        if known is None or known.columns != cached or len(known.seq_ids) != count:
            ids = list(range(self._next_id, self._next_id + count))
            self._next_id += count
            known = Batch(ids, cached, [_runs(mask, b, 0, cached) for b in range(count)])
            if cache is not None:
                self.adopt(cache, known)
        known.runs = [_joined(known.runs[b], _runs(mask, b, cached, end)) for b in range(count)]
        known.columns = end
        return known

    def _known(self, cache: object | None) -> Batch | None:
        reference, batch = self._by_cache.get(id(cache), (None, None))
        return batch if reference is not None and reference() is cache else None


def rows_of(batch: Batch, cached: int, tokens: torch.Tensor, positions: torch.Tensor | None) -> dict[str, Any]:
    """
    The fields of a step: the rows of `tokens` [sequences, columns] that are no padding, and of a padded batch the place of
    each in the batch. `positions` [1 or sequences, columns] as the model was given them.
    @raises UnevenPaddingError when padding stands between tokens.
    """
    count, columns = tokens.shape
    places: list[int] = []
    indptr = [0]
    for b in range(count):
        own = _within(batch.runs[b], cached, cached + columns)
        if len(own) > 1:
            raise UnevenPaddingError(f"sequence {b} has padding between its tokens")
        for first, length in own:
            places += range(b * columns + first - cached, b * columns + first - cached + length)
        indptr.append(len(places))
    flat = tokens.reshape(-1).tolist()
    fields: dict[str, Any] = {"seq_ids": batch.seq_ids, "token_ids": [flat[place] for place in places], "qo_indptr": indptr}
    if positions is not None and positions.dim() <= 2 and positions.shape[-1] == columns:
        spread = positions.reshape(-1, columns).expand(count, columns).reshape(-1).tolist()
        fields["positions"] = [int(spread[place]) for place in places]
    if len(places) < count * columns:
        fields |= {"padded": [count, columns], "row_map": places}
    return fields


def cache_fields(batch: Batch, places: Sequence[int], columns: int, page_size: int) -> dict[str, Any]:
    """
    Where the keys lie in a cache [sequences, heads, page_size, head_dim], each sequence a page: after the pass whose rows
    stand at `places` of its batch, `columns` wide.
    """
    count = len(batch.seq_ids)
    first = batch.columns - columns
    slots = [place // columns * page_size + first + place % columns for place in places]
    fields: dict[str, Any] = {"page_size": page_size, "slot_mapping": slots}
    if all(runs == [(0, batch.columns)] for runs in batch.runs):
        table = {"kv_indptr": list(range(count + 1)), "kv_indices": list(range(count))}
        return fields | table | {"kv_last_page_len": [batch.columns] * count}
    runs = [[[b * page_size + start, length] for start, length in runs] for b, runs in enumerate(batch.runs)]
    return fields | {"kv_runs": runs}


def _runs(mask: torch.Tensor | None, sequence: int, first: int, end: int) -> list[Run]:
    """Columns from `first` up to `end` that the mask says are tokens."""
    if first >= end:
        return []
    if mask is None:
        return [(first, end - first)]
    runs: list[Run] = []
    for column, real in enumerate(mask[sequence, first:end].ne(0).tolist(), first):
        if not real:
            continue
        if runs and sum(runs[-1]) == column:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((column, 1))
    return runs


def _joined(before: list[Run], after: list[Run]) -> list[Run]:
    """Runs one after the other, as one where they touch."""
    if before and after and sum(before[-1]) == after[0][0]:
        (first, length), (_, more) = before[-1], after[0]
        return [*before[:-1], (first, length + more), *after[1:]]
    return [*before, *after]


def _within(runs: list[Run], first: int, end: int) -> list[Run]:
    cut = [(max(start, first), min(start + length, end)) for start, length in runs]
    return [(start, stop - start) for start, stop in cut if start < stop]
