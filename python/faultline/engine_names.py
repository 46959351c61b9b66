"""How the modules, parameters and streams of a serving engine's model are called in the spec."""

from __future__ import annotations

import re
from typing import Any

import torch

#: Values that a rank of tensor parallelism has a part of, by the end of their name: the axis that is cut.
_CUT = {
    "q_proj": "h",
    "k_proj": "h",
    "v_proj": "h",
    "q_norm": "h",
    "k_norm": "h",
    "q_rope": "h",
    "k_rope": "h",
    "k_cache": "h",
    "v_cache": "h",
    "o_proj.input": "h",
    "gate_proj": "c",
    "up_proj": "c",
    "act_fn": "c",
    "down_proj.input": "c",
}


class EngineNames:
    """Module paths, and parameters by where they lie in memory, as names of the spec."""

    def __init__(self, model: torch.nn.Module) -> None:
        config = getattr(model, "config", None)
        as_dict = getattr(config, "to_dict", None)
        #: config.json as the model believes it.
        self.config: dict[str, Any] = dict(as_dict() if as_dict else config or {})
        paths = [path for path, _ in model.named_modules()]
        found = [re.fullmatch(r"(.*?)layers\.(\d+)", path) for path in paths]
        layers = [(match.group(1), int(match.group(2))) for match in found if match]
        #: What stands before "layers.0": "model.".
        self.prefix = layers[0][0] if layers else "model."
        self.layer_count = 1 + max((layer for _, layer in layers), default=-1)
        #: Whether queries and keys are normalised before RoPE.
        self.has_query_key_norm = any(path.endswith("self_attn.q_norm") for path in paths)
        self._parameters = {
            (parameter.data_ptr(), tuple(parameter.shape)): name for name, parameter in model.named_parameters()
        }

    def layer(self, path: str) -> str | None:
        """The layer a module lies in: "model.layers.3" of "model.layers.3.self_attn.attn"."""
        match = re.match(r"(.*?layers\.\d+)(\.|$)", path)
        return match.group(1) if match else None

    def attention(self, path: str) -> str | None:
        """The attention module a module lies in or is: "model.layers.3.self_attn" of "model.layers.3.self_attn.attn"."""
        layer = self.layer(path)
        return None if layer is None else f"{layer}.self_attn"

    def module_of(self, weight: torch.Tensor) -> str | None:
        """The module that a parameter belongs to: "model.layers.3.input_layernorm" of that norm's weight."""
        name = self._parameters.get((weight.data_ptr(), tuple(weight.shape)))
        return None if name is None else name.rpartition(".")[0]

    def stream_before(self, norm: str) -> str | None:
        """The value that a norm of the residual stream normalises; None for other norms."""
        layer = self.layer(norm)
        if layer is None:
            return f"{self.prefix}layers.{self.layer_count - 1}" if norm == f"{self.prefix}norm" else None
        name = norm.removeprefix(f"{layer}.")
        if name == "post_attention_layernorm":
            return f"{norm}.input"
        if name != "input_layernorm":
            return None
        number = int(layer.rpartition(".")[2])
        return f"{self.prefix}layers.{number - 1}" if number > 0 else f"{self.prefix}embed_tokens"

    def branch_before(self, norm: str) -> str | None:
        """What was added last to the stream that a norm normalises: the attention's or the MLP's output."""
        stream = self.stream_before(norm)
        if stream is None or stream.endswith("embed_tokens"):
            return None
        return f"{self.layer(norm)}.self_attn" if stream.endswith(".input") else f"{stream}.mlp"

    def adder_before(self, norm: str) -> str | None:
        """The end of the name of the addition in front of a norm, as it reads its operands."""
        stream = self.stream_before(norm)
        return None if stream is None else stream.removeprefix(self.prefix)


def cut_of(name: str) -> str | None:
    """The axis along which tensor parallelism cuts a value; None for values that every rank has whole."""
    return next((axis for end, axis in _CUT.items() if name.endswith(f".{end}")), None)
