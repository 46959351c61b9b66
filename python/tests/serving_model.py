"""A Qwen3 as serving engines build theirs: rows of all sequences in one axis, packed projections, norms that add the residual."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn


class Projection(nn.Module):
    """A linear layer that returns (result, bias or None), as parallel layers do."""

    def __init__(self, *weights: torch.Tensor, **attributes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat(weights))
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return x @ self.weight.T, None


class Norm(nn.Module):
    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(weight), epsilon

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        total = x.float() if residual is None else x.float() + residual.float()
        normed = total * torch.rsqrt(total.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight.float()
        return normed.to(x.dtype) if residual is None else (normed.to(x.dtype), total.to(x.dtype))


class Rotary(nn.Module):
    """One for all layers."""

    def __init__(self, width: int, theta: float) -> None:
        super().__init__()
        self.width = width
        self.frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)

    def forward(self, positions: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions.float()[:, None, None] * self.frequencies
        turned = []
        for x in (q, k):
            low, high = x.view(len(positions), -1, self.width).float().chunk(2, dim=-1)
            cos, sin = angles.cos(), angles.sin()
            turned.append(torch.cat([low * cos - high * sin, high * cos + low * sin], -1).to(x.dtype).view(x.shape))
        return turned[0], turned[1]


class SiluAndMul(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = x.float().chunk(2, dim=-1)
        return (nn.functional.silu(gate) * up).to(x.dtype)


class SelfAttention(nn.Module):
    def __init__(self, weights: Callable[[str], torch.Tensor], sizes: Any, rotary: Rotary, attn: nn.Module) -> None:
        super().__init__()
        self.sizes = sizes
        packed = [weights(f"self_attn.{name}_proj.weight") for name in "qkv"]
        self.qkv_proj = Projection(*packed, num_heads=sizes.heads, num_kv_heads=sizes.key_heads)
        self.q_norm = Norm(weights("self_attn.q_norm.weight"), sizes.epsilon)
        self.k_norm = Norm(weights("self_attn.k_norm.weight"), sizes.epsilon)
        self.rotary_emb = rotary
        self.attn = attn
        self.o_proj = Projection(weights("self_attn.o_proj.weight"))

    def forward(self, positions: torch.Tensor, hidden: torch.Tensor, *batch: Any) -> torch.Tensor:
        width, keys = self.sizes.width, self.sizes.key_heads * self.sizes.width
        qkv, _ = self.qkv_proj(hidden)
        q, k, v = qkv.split([self.sizes.heads * width, keys, keys], dim=-1)
        q = self.q_norm(q.view(len(q), -1, width)).view(q.shape)
        k = self.k_norm(k.view(len(k), -1, width)).view(k.shape)
        q, k = self.rotary_emb(positions, q, k)
        return self.o_proj(self.attn(q, k, v, *batch))[0]


class FeedForward(nn.Module):
    def __init__(self, weights: Callable[[str], torch.Tensor]) -> None:
        super().__init__()
        self.gate_up_proj = Projection(weights("mlp.gate_proj.weight"), weights("mlp.up_proj.weight"))
        self.act_fn = SiluAndMul()
        self.down_proj = Projection(weights("mlp.down_proj.weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_up_proj(x)[0]))[0]


class Layer(nn.Module):
    def __init__(self, weights: Callable[[str], torch.Tensor], sizes: Any, rotary: Rotary, attn: nn.Module) -> None:
        super().__init__()
        self.input_layernorm = Norm(weights("input_layernorm.weight"), sizes.epsilon)
        self.self_attn = SelfAttention(weights, sizes, rotary, attn)
        self.post_attention_layernorm = Norm(weights("post_attention_layernorm.weight"), sizes.epsilon)
        self.mlp = FeedForward(weights)

    def forward(self, positions: torch.Tensor, hidden: torch.Tensor, residual: torch.Tensor | None, *batch: Any) -> Any:
        if residual is None:
            hidden, residual = self.input_layernorm(hidden), hidden
        else:
            hidden, residual = self.input_layernorm(hidden, residual)
        hidden, residual = self.post_attention_layernorm(self.self_attn(positions, hidden, *batch), residual)
        return self.mlp(hidden), residual


class Decoder(nn.Module):
    def __init__(self, weights: dict[str, torch.Tensor], sizes: Any, make_attention: Callable[[int, Any], nn.Module]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding.from_pretrained(weights["model.embed_tokens.weight"])
        rotary = Rotary(sizes.width, sizes.theta)

        def of_layer(layer: int) -> Callable[[str], torch.Tensor]:
            return lambda name: weights[f"model.layers.{layer}.{name}"]

        self.layers = nn.ModuleList(
            Layer(of_layer(n), sizes, rotary, make_attention(n, sizes)) for n in range(sizes.layers)
        )
        self.norm = Norm(weights["model.norm.weight"], sizes.epsilon)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, *batch: Any) -> torch.Tensor:
        hidden, residual = self.embed_tokens(ids), None
        for layer in self.layers:
            hidden, residual = layer(positions, hidden, residual, *batch)
        return self.norm(hidden, residual)[0]


class LogitsProcessor(nn.Module):
    def forward(self, weight: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ weight.T


class ServedModel(nn.Module):
    """`make_attention(layer, sizes)` gives the engine's attention module."""

    def __init__(self, folder: Path, make_attention: Callable[[int, Any], nn.Module]) -> None:
        super().__init__()
        self.config = json.loads((folder / "config.json").read_text())
        told = self.config
        self.sizes = SimpleNamespace(
            layers=told["num_hidden_layers"],
            heads=told["num_attention_heads"],
            key_heads=told["num_key_value_heads"],
            width=told["head_dim"],
            epsilon=told["rms_norm_eps"],
            theta=told["rope_parameters"]["rope_theta"],
        )
        weights = load_file(str(folder / "model.safetensors"))
        self.model = Decoder(weights, self.sizes, make_attention)
        self.logits_processor = LogitsProcessor()
        self.head = nn.Parameter(weights["lm_head.weight"])

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, *batch: Any) -> torch.Tensor:
        return self.model(ids, positions, *batch)

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.logits_processor(self.head, hidden)


def attend(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], bounds: list[int], width: int
) -> torch.Tensor:
    """Causal attention of ragged rows q [rows, heads · width] over each sequence's keys [keys, key heads, width]."""
    out = torch.empty_like(q)
    for b, (key, value) in enumerate(zip(keys, values)):
        rows = q[bounds[b] : bounds[b + 1]].view(bounds[b + 1] - bounds[b], -1, width).float()
        group = rows.shape[1] // key.shape[1]
        k, v = (x.float().repeat_interleave(group, dim=1) for x in (key, value))
        scores = torch.einsum("qhd,khd->hqk", rows, k) * width**-0.5
        hidden = torch.ones(scores.shape[1:]).tril(len(key) - len(rows)) == 0
        shares = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        out[bounds[b] : bounds[b + 1]] = torch.einsum("hqk,khd->qhd", shares, v).reshape(len(rows), -1).to(q.dtype)
    return out
