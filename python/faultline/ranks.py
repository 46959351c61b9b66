"""Which part of a value a rank of a tensor-parallel run holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from .step import Part

_QUERIES = ("q_proj", "q_norm", "q_rope", "o_proj.input")
_KEYS = ("k_proj", "v_proj", "k_norm", "k_rope", "k_cache", "v_cache")
_INTERMEDIATE = ("gate_proj", "up_proj", "act_fn", "down_proj.input")


@dataclass(frozen=True)
class Ranks:
    """A rank among `world`, and how wide the values of its model are when they are whole."""

    rank: int
    world: int
    config: Any

    def part_of(self, name: str, columns: int) -> Part | None:
        """
        The part {axis, part, of} of the value `name` that a record of so many columns (heads × channels) is, told by how many
        the config gives it; None for a whole value. Heads that several ranks hold are one part.
        """
        if ".experts" in name or ".shared_expert" in name:
            return None
        heads = self.config.num_attention_heads
        key_heads = getattr(self.config, "num_key_value_heads", None) or heads
        head_dim = getattr(self.config, "head_dim", None) or self.config.hidden_size // heads
        for kinds, axis, whole in (
            (_QUERIES, "h", heads * head_dim),
            (_KEYS, "h", key_heads * head_dim),
            (_INTERMEDIATE, "c", getattr(self.config, "intermediate_size", 0)),
            (("lm_head",), "c", self.config.vocab_size),
        ):
            if name.endswith(kinds) and columns < whole:
                of = min(self.world, -(-whole // columns))
                return {"axis": axis, "part": self.rank * of // self.world, "of": of}
        return None

    def term(self) -> Part:
        """This rank's term of a sum over all ranks."""
        return {"part": self.rank, "of": self.world}


def current_ranks(config: Any) -> Ranks | None:
    """The rank of this process, where the run has several."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    return Ranks(dist.get_rank(), dist.get_world_size(), config)
