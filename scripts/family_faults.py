"""Faults in the code of transformers, one at a time: {family: {name: patch}}, where patch(model) puts one into a model.

Each patch is written as the mistake is made: a setting forgotten, a line left out, an order exchanged.
"""

import sys

import torch
from torch import nn


def module_of(model):
    """The file of transformers that a model's classes come from."""
    return sys.modules[type(model).__module__]


def each_layer(change):
    def patch(model):
        for layer in model.model.layers:
            change(layer)

    return patch


def each_norm(change):
    def patch(model):
        for module in model.modules():
            if "RMSNorm" in type(module).__name__:
                change(module)

    return patch


def in_code(name, replacement):
    """Another function in the model's file. Undone by leaving the process or by the caller."""

    def patch(model):
        setattr(module_of(model), name, replacement)

    return patch


def attribute(path, value):
    """A setting of the model, the last part of a dotted path; a callable value is given the old one."""

    def patch(model):
        *parents, last = path.split(".")
        owner = model
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, value(getattr(owner, last)) if callable(value) else value)

    return patch


def epsilon(value):
    def change(norm):
        name = "eps" if hasattr(norm, "eps") else "variance_epsilon"
        setattr(norm, name, value)

    return each_norm(change)


def all_keys(model):
    """Sliding layers see every earlier key."""
    for layer in model.model.layers:

        def widen(_module, arguments, keywords):
            mask = keywords["attention_mask"]
            count = mask.shape[-1]
            lowest = torch.finfo(mask.dtype).min
            future = torch.ones(count, count, dtype=torch.bool).triu(1)
            keywords["attention_mask"] = torch.zeros_like(mask).masked_fill(future, lowest)
            return arguments, keywords

        layer.self_attn.register_forward_pre_hook(widen, with_kwargs=True)


def interleaved(x):
    """rotate_half of GPT-J: neighbours are pairs."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def interleaved_pairs(model):
    """RoPE of GPT-J throughout: neighbouring channels are pairs and share an angle."""
    in_code("rotate_half", interleaved)(model)

    def by_pairs(_module, _arguments, tables):
        return tuple(table[..., : table.shape[-1] // 2].repeat_interleave(2, dim=-1) for table in tables)

    model.model.rotary_emb.register_forward_hook(by_pairs)


def tiled(states, times):
    """repeat_kv with the heads one after the other, over and over."""
    return states.repeat(1, times, 1, 1)


def with_forward(attribute_name, forward):
    def change(layer):
        module = getattr(layer, attribute_name)
        module.forward = forward.__get__(module)

    return each_layer(change)


def gate_and_up_exchanged(self, x):
    return self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))


def packed_gate_and_up_exchanged(self, x):
    up, gate = self.gate_up_proj(x).chunk(2, dim=-1)
    return self.down_proj(up * self.activation_fn(gate))


def up_activated(self, x):
    gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
    return self.down_proj(gate * up)


def ungated_norm(self, x):
    """Gemma's norm as other families write it: the weight multiplies as it is stored."""
    return (self._norm(x.float()) * self.weight.float()).type_as(x)


def normalised_first(self, x):
    """Gemma's norm rounded to bfloat16 before its float32 weight, which is then one too small."""
    return (self._norm(x.float()).type_as(x) * self.weight).type_as(x)


def norm_per_head(self, x):
    heads = x.unflatten(-1, (-1, 16)).float()
    heads = heads * torch.rsqrt(heads.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
    return (self.weight * heads.flatten(-2)).to(x.dtype)


def missing(*names):
    def change(layer):
        for name in names:
            owner = layer.self_attn if name in ("q_norm", "k_norm") else layer
            setattr(owner, name, nn.Identity())

    return each_layer(change)


def own_code(**choices):
    """Every layer runs the code below instead of its own."""

    def change(layer):
        layer.forward = lambda hidden_states, **keywords: run_layer(layer, hidden_states, keywords, **choices)

    return each_layer(change)


def run_layer(layer, x, keywords, residual="both", factor=None, norm_of_sum=False, mlp_input="norm"):
    """A decoder layer of any family here, with one choice made wrongly."""
    factor = getattr(layer, "residual_multiplier", 1.0) if factor is None else factor
    sandwich = hasattr(layer, "pre_feedforward_layernorm")
    post = sandwich or hasattr(layer, "post_feedforward_layernorm")

    def branch(stream, before, run, after, name):
        out = run(before(stream) if before else stream)
        if after and not norm_of_sum:
            out = after(out)
        out = out * factor if factor != 1.0 else out
        total = out if residual == f"no {name}" else stream + out
        return after(total) if after and norm_of_sum else total

    attend = lambda h: layer.self_attn(hidden_states=h, **keywords)[0]  # noqa: E731
    before = getattr(layer, "input_layernorm", None)
    after = layer.post_attention_layernorm if post else None
    middle = branch(x, before, attend, after, "attention")
    inner = layer.pre_feedforward_layernorm if sandwich else None if post else layer.post_attention_layernorm
    if mlp_input == "stream":
        inner(middle)
        inner = None
    return branch(middle, inner, layer.mlp, layer.post_feedforward_layernorm if post else None, "mlp")


def scaled_frequencies(change):
    """Other inverse frequencies in every buffer of the rotary embedding."""

    def patch(model):
        for name, buffer in model.model.rotary_emb.named_buffers():
            if name.endswith("inv_freq"):
                buffer.copy_(change(buffer))

    return patch


def theta(value):
    def patch(model):
        for name, buffer in model.model.rotary_emb.named_buffers():
            if name.endswith("inv_freq"):
                pairs = buffer.shape[0]
                buffer.copy_(value ** (-torch.arange(pairs) / pairs))

    return patch


def thetas_exchanged(model):
    rotary = model.model.rotary_emb
    window, everything = rotary.sliding_attention_inv_freq.clone(), rotary.full_attention_inv_freq.clone()
    rotary.sliding_attention_inv_freq.copy_(everything)
    rotary.full_attention_inv_freq.copy_(window)


def window_frequencies_everywhere(model):
    rotary = model.model.rotary_emb
    rotary.full_attention_inv_freq.copy_(rotary.sliding_attention_inv_freq)


def whole_head_turns(model):
    rotary = model.model.rotary_emb
    pairs = model.model.layers[0].self_attn.head_dim // 2
    full = 10000.0 ** (-torch.arange(pairs) / pairs)
    rotary.inv_freq = full
    rotary.original_inv_freq = full.clone()
    rotary.rope_type = "default"


def long_factors(model):
    rotary = model.model.rotary_emb
    pairs = rotary.inv_freq.shape[0]
    factors = torch.tensor(model.config.rope_parameters["long_factor"])
    frequencies = 10000.0 ** (-torch.arange(pairs) / pairs) / factors
    rotary.inv_freq.copy_(frequencies)
    rotary.original_inv_freq.copy_(frequencies)


def rows_exchanged(name, first, second):
    """Rows of a packed weight in another order: two ranges of rows of the same number."""

    def change(layer):
        weight = layer.get_submodule(name).weight
        with torch.no_grad():
            copy = weight.clone()
            weight[first] = copy[second]
            weight[second] = copy[first]

    return each_layer(change)


def rope_everywhere(model):
    for layer in model.model.layers:
        layer.self_attn.use_rope = True


def rope_nowhere(model):
    for layer in model.model.layers:
        layer.self_attn.use_rope = False


def rope_exchanged(model):
    for layer in model.model.layers:
        layer.self_attn.use_rope = not layer.self_attn.use_rope


def attention_setting(name, value):
    def change(layer):
        old = getattr(layer.self_attn, name)
        setattr(layer.self_attn, name, value(old) if callable(value) else value)

    return each_layer(change)


def activation(function):
    def change(layer):
        setattr(layer.mlp, "act_fn" if hasattr(layer.mlp, "act_fn") else "activation_fn", function)

    return each_layer(change)


def biases(change, *names):
    """Other biases of the named projections, which model code reads with the rest of the checkpoint."""

    def patch(layer):
        for name in names:
            bias = layer.get_submodule(name).bias
            with torch.no_grad():
                bias.copy_(change(bias))

    return each_layer(patch)


def norm_after_rope(model):
    """QK-norm behind RoPE: the norms of queries and keys wait for the rotated ones."""
    code = module_of(model)
    rotate = code.apply_rotary_pos_emb
    norms = []

    def waiting(norm):
        forward = norm.forward

        def forward_later(states):
            norms.append(forward)
            return states

        norm.forward = forward_later

    def rotate_then_norm(query, key, *tables):
        query, key = rotate(query, key, *tables)
        norm_query, norm_key = norms
        norms.clear()
        return norm_query(query), norm_key(key)

    each_layer(lambda layer: (waiting(layer.self_attn.q_norm), waiting(layer.self_attn.k_norm)))(model)
    code.apply_rotary_pos_emb = rotate_then_norm


def norms_exchanged(layer):
    attention = layer.self_attn
    attention.q_norm.weight, attention.k_norm.weight = attention.k_norm.weight, attention.q_norm.weight


def embedding_times(factor):
    return lambda model: model.model.embed_tokens.register_forward_hook(lambda _module, _inputs, output: output * factor)


def without_final_norm(model):
    model.model.norm.forward = lambda states: states


def rope_unscaled(model):
    """The frequencies before llama3's scaling."""
    theta(model.config.rope_parameters["rope_theta"])(model)


def without_rope(model):
    module_of(model).apply_rotary_pos_emb = lambda query, key, *_tables: (query, key)


def keys_unrotated(model):
    rotate = module_of(model).apply_rotary_pos_emb
    module_of(model).apply_rotary_pos_emb = lambda query, key, *tables: (rotate(query, key, *tables)[0], key)


COMMON = {
    "epsilon": epsilon(1e-2),
    "interleaved": interleaved_pairs,
    "heads-tiled": in_code("repeat_kv", tiled),
    "gate-up": with_forward("mlp", gate_and_up_exchanged),
    "no-attention-residual": own_code(residual="no attention"),
    "no-mlp-residual": own_code(residual="no mlp"),
}

GEMMA = {
    **COMMON,
    "weight-without-one": each_norm(lambda norm: setattr(norm, "forward", ungated_norm.__get__(norm))),
    "no-post-norm": missing("post_attention_layernorm"),
    "norm-of-sum": own_code(norm_of_sum=True),
    "embedding-unscaled": attribute("model.embed_tokens.embed_scale", torch.tensor(1.0)),
    "embedding-scaled-twice": attribute("model.embed_tokens.embed_scale", lambda scale: scale**2),
    "head-dim-scale": attention_setting("scaling", 16**-0.5),
    "window-ignored": all_keys,
    "silu": activation(nn.SiLU()),
}

QUERY_KEY_VALUE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

FAULTS = {
    "qwen2": {
        **COMMON,
        "window-ignored": all_keys,
        "biases-dropped": biases(torch.zeros_like, *QUERY_KEY_VALUE),
        "key-bias-dropped": biases(torch.zeros_like, "self_attn.k_proj"),
        "value-bias-twice": biases(lambda bias: 2 * bias, "self_attn.v_proj"),
        "theta": theta(10000.0),
        "no-rope": without_rope,
    },
    "qwen3": {
        **COMMON,
        "no-query-key-norm": missing("q_norm", "k_norm"),
        "norm-after-rope": norm_after_rope,
        "head-norms-exchanged": each_layer(norms_exchanged),
        "embedding-unit": embedding_times(72**-0.5),
        "keys-unrotated": keys_unrotated,
        "theta": theta(10000.0),
    },
    "llama": {
        **COMMON,
        "rope-unscaled": rope_unscaled,
        "output-bias-dropped": biases(torch.zeros_like, "self_attn.o_proj"),
        "down-bias-twice": biases(lambda bias: 2 * bias, "mlp.down_proj"),
        "gelu": activation(nn.GELU()),
        "unscaled-scores": attention_setting("scaling", 1.0),
        "mlp-reads-stream": own_code(mlp_input="stream"),
    },
    "smollm2": {
        **COMMON,
        "theta": theta(10000.0),
        "no-rope": without_rope,
        "head-dim-of-model": attention_setting("scaling", 72**-0.5),
        "relu": activation(nn.ReLU()),
        "logits-without-norm": without_final_norm,
        "mlp-reads-stream": own_code(mlp_input="stream"),
    },
    "mistral": {
        **COMMON,
        "window-ignored": all_keys,
        "theta": theta(1000000.0),
        "gelu": activation(nn.GELU()),
        "unscaled-scores": attention_setting("scaling", 1.0),
    },
    "gemma2": {
        **GEMMA,
        "scores-uncapped": attention_setting("attn_logit_softcapping", None),
        "logits-uncapped": attribute("config.final_logit_softcapping", 1e9),
    },
    "gemma3_text": {
        **GEMMA,
        "thetas-exchanged": thetas_exchanged,
        "one-theta": window_frequencies_everywhere,
        "no-query-norm": missing("q_norm"),
    },
    "phi3": {
        **{name: patch for name, patch in COMMON.items() if name != "gate-up"},
        "packed-gate-up": with_forward("mlp", packed_gate_and_up_exchanged),
        "packed-key-value": rows_exchanged("self_attn.qkv_proj", slice(64, 96), slice(96, 128)),
        "whole-head-turns": whole_head_turns,
        "long-factors": long_factors,
        "attention-factor": attribute("model.rotary_emb.attention_scaling", 1.0),
        "gate-not-activated": with_forward("mlp", up_activated),
    },
    "smollm3": {
        **COMMON,
        "rope-everywhere": rope_everywhere,
        "rope-nowhere": rope_nowhere,
        "rope-exchanged": rope_exchanged,
        "theta": theta(10000.0),
    },
    "olmo2": {
        **COMMON,
        "norm-per-head": each_layer(
            lambda layer: [
                setattr(norm, "forward", norm_per_head.__get__(norm))
                for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)
            ]
        ),
        "no-query-key-norm": missing("q_norm", "k_norm"),
        "no-post-norm": missing("post_attention_layernorm"),
        "norm-of-sum": own_code(norm_of_sum=True),
        "theta": theta(10000.0),
    },
    "olmo3": {
        **COMMON,
        "window-ignored": all_keys,
        "thetas-exchanged": thetas_exchanged,
        "no-query-key-norm": missing("q_norm", "k_norm"),
        "no-post-norm": missing("post_attention_layernorm"),
        "norm-of-sum": own_code(norm_of_sum=True),
    },
    "granite": {
        **COMMON,
        "residual-unscaled": own_code(factor=1.0),
        "residual-scaled-twice": own_code(factor=0.22**2),
        "embedding-unscaled": attribute("model.embedding_multiplier", 1.0),
        "head-dim-scale": attention_setting("scaling", 16**-0.5),
        "logits-unscaled": attribute("config.logits_scaling", 1.0),
        "mlp-reads-stream": own_code(mlp_input="stream"),
    },
}
