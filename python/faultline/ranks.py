"""Which part of a value a rank of a tensor-parallel run holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
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


def is_sharded(model: torch.nn.Module, config: Any) -> bool:
    """Whether this process holds only a part of the model: DTensors, or projections with fewer heads than the config has."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "to_local") or (name.endswith("q_proj.weight") and parameter.shape[0] < heads * head_dim):
            return True
    return False


def process_rank() -> int | None:
    """This process's number among several; None where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    return dist.get_rank()


def current_ranks(model: torch.nn.Module, config: Any) -> Ranks | None:
    """The rank of this process, where several hold the model together; None where each has a whole model of its own."""
    rank = process_rank()
    return None if rank is None or not is_sharded(model, config) else Ranks(rank, dist.get_world_size(), config)
