"""
A compact Qwen3 over FlashInfer. Two paths through the same weights: "standard" has a function per op, "fused" a Triton kernel
for RMSNorm and the packed q, k, v projection, norms and RoPE on slices of its rows, and FlashInfer's fused additions.
Modules are called as Hugging Face calls them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import flashinfer
import torch
from safetensors.torch import load_file
from torch import nn


@dataclass
class Config:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    vocabulary: int
    epsilon: float
    theta: float

    @staticmethod
    def read(folder):
        told = json.loads((Path(folder) / "config.json").read_text())
        config = Config(
            hidden=told["hidden_size"],
            intermediate=told["intermediate_size"],
            layers=told["num_hidden_layers"],
            heads=told["num_attention_heads"],
            key_heads=told["num_key_value_heads"],
            head_dim=told["head_dim"],
            vocabulary=told["vocab_size"],
            epsilon=told["rms_norm_eps"],
            theta=told["rope_parameters"]["rope_theta"],
        )
        return config, told


class Embedding(nn.Embedding):
    def __init__(self, config, seams):
        super().__init__(config.vocabulary, config.hidden)
        self.seams = seams

    def forward(self, ids):
        return self.seams.embedded(super().forward(ids))


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x):
        return flashinfer.rmsnorm(x, self.weight, self.epsilon)


class PackedProjection(nn.Module):
    """q, k and v of the normalised rows in one kernel; its weight is that of the three projections one below the other."""

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.num_kv_heads = config.heads, config.key_heads
        self.weight = None
        self.bias = None

    def forward(self, x, norm):
        from fused_norm_qkv import fused_norm_qkv

        return fused_norm_qkv(x, norm.weight, self.weight, norm.epsilon, self.bias)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config, self.layer = config, layer
        width, key_width = config.heads * config.head_dim, config.key_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden, width, bias=False)
        self.k_proj = nn.Linear(config.hidden, key_width, bias=False)
        self.v_proj = nn.Linear(config.hidden, key_width, bias=False)
        self.q_norm = Norm(config.head_dim, config.epsilon)
        self.k_norm = Norm(config.head_dim, config.epsilon)
        self.o_proj = nn.Linear(width, config.hidden, bias=False)
        self.qkv_proj = PackedProjection(config)

    def pack(self, bias):
        """The fused kernel's weight; the three it is made of become parts of it."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        self.qkv_proj.weight = torch.cat([part.weight for part in parts])
        self.qkv_proj.bias = bias

    def forward(self, hidden, engine, batch, norm=None):
        """hidden [rows, hidden]: normalised, or with `norm` as it is before."""
        heads, key_heads, width = self.config.heads, self.config.key_heads, self.config.head_dim
        rows = hidden.shape[0]
        qkv = None
        if norm is None:
            query, key, value = (part(hidden) for part in (self.q_proj, self.k_proj, self.v_proj))
        else:
            qkv = self.qkv_proj(hidden, norm)
            query, key, value = qkv.split([heads * width, key_heads * width, key_heads * width], dim=-1)
        query = self.q_norm(query.view(rows, heads, width))
        key = self.k_norm(key.view(rows, key_heads, width))
        value = value.view(rows, key_heads, width)
        query, rotated = engine.rotate(query, key, batch)
        mixed = engine.attend(self.layer, batch, qkv, query, key, rotated, value)
        return self.o_proj(mixed.view(rows, heads * width))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down_proj = nn.Linear(config.intermediate, config.hidden, bias=False)
        self.packed = None

    def forward(self, hidden):
        if self.packed is None:
            return self.down_proj(nn.functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return self.down_proj(flashinfer.silu_and_mul(hidden @ self.packed.T))


class Layer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.input_layernorm = Norm(config.hidden, config.epsilon)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = Norm(config.hidden, config.epsilon)
        self.mlp = FeedForward(config)

    def forward(self, stream, engine, batch):
        if engine.path == "fused":
            return self._fused(stream, engine, batch)
        branch = self.self_attn(self.input_layernorm(stream), engine, batch)
        stream = stream + branch if engine.seams.adds_attention() else branch
        return stream + self.mlp(self.post_attention_layernorm(stream))

    def _fused(self, stream, engine, batch):
        branch = self.self_attn(stream, engine, batch, self.input_layernorm)
        norm = self.post_attention_layernorm
        if engine.seams.adds_attention():
            flashinfer.fused_add_rmsnorm(branch, stream, norm.weight, norm.epsilon)
            normed = branch
        else:
            stream = branch
            normed = norm(stream)
        return stream.add_(self.mlp(normed))


class Decoder(nn.Module):
    def __init__(self, config, seams):
        super().__init__()
        self.embed_tokens = Embedding(config, seams)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = Norm(config.hidden, config.epsilon)

    def forward(self, ids, engine, batch):
        stream = self.embed_tokens(ids)
        for layer in self.layers:
            stream = layer(stream, engine, batch)
        return self.norm(stream)


class Qwen3(nn.Module):
    def __init__(self, config, told, seams):
        super().__init__()
        self.config = told
        self.model = Decoder(config, seams)
        self.lm_head = nn.Linear(config.hidden, config.vocabulary, bias=False)

    def forward(self, ids, engine, batch):
        """Logits [sequences, vocabulary] of each sequence's last row."""
        return self.lm_head(self.model(ids, engine, batch)[(batch.qo_indptr[1:] - 1).long()])


def load(folder, path, seams, device):
    """The model of a folder in bfloat16, its weights packed for the fused path."""
    config, told = Config.read(folder)
    model = Qwen3(config, told, seams).bfloat16()
    weights = load_file(str(Path(folder) / "model.safetensors"))
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    model.load_state_dict(weights, strict=True)
    model = model.eval().requires_grad_(False).to(device)
    if path == "fused":
        columns = [heads * config.head_dim for heads in (config.heads, config.key_heads, config.key_heads)]
        for number, layer in enumerate(model.model.layers):
            layer.self_attn.pack(seams.bias(number, columns, device))
            layer.mlp.packed = torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight])
    return model, config
