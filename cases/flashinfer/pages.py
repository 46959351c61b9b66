"""The paged KV cache of the sequences that run, and one step's share of it as FlashInfer is told."""

from dataclasses import dataclass

import torch


@dataclass
class Batch:
    """A step: rows of all sequences one behind the other. Index arrays are int32 [..] on the device."""

    seq_ids: list[int]
    token_ids: list[int]
    positions: torch.Tensor
    qo_indptr: torch.Tensor
    kv_indptr: torch.Tensor
    kv_indices: torch.Tensor
    kv_last_page_len: torch.Tensor
    batch_indices: torch.Tensor
    #: Whether every sequence has one row and all keys but its own were there before.
    is_decode: bool
    #: Whether no sequence had keys before.
    is_first: bool


class Pages:
    """Who holds which pages, and how many tokens; page numbers are dealt out of order, as in a server that has run for long."""

    def __init__(self, config, count=24, page_size=4, device="cpu"):
        self.page_size = page_size
        self.device = device
        shape = (config.layers, count, 2, page_size, config.key_heads, config.head_dim)
        self.cache = torch.zeros(shape, dtype=torch.bfloat16, device=device)
        self._free = [(7 * number + 5) % count for number in range(count)]
        self._held: dict[int, list[int]] = {}
        self._length: dict[int, int] = {}

    def batch(self, tokens):
        """Make room for `tokens`, {sequence: its next token ids}, and describe the step."""
        positions, batch_indices, rows, pages, last = [], [], [0], [0], []
        indices = []
        before = [self._length.get(sequence, 0) for sequence in tokens]
        for b, (sequence, ids) in enumerate(tokens.items()):
            start = self._length.get(sequence, 0)
            length = self._length[sequence] = start + len(ids)
            held = self._held.setdefault(sequence, [])
            while len(held) * self.page_size < length:
                held.append(self._free.pop(0))
            positions += range(start, length)
            batch_indices += [b] * len(ids)
            indices += held
            rows.append(len(positions))
            pages.append(len(indices))
            last.append((length - 1) % self.page_size + 1)

        def array(numbers):
            return torch.tensor(numbers, dtype=torch.int32, device=self.device)

        return Batch(
            list(tokens),
            [token for ids in tokens.values() for token in ids],
            *map(array, (positions, rows, pages, indices, last, batch_indices)),
            is_decode=all(before) and len(positions) == len(tokens),
            is_first=not any(before),
        )
