"""Run a tiny Qwen3 under the recorders of SGLang and FlashInfer, and with torch.save and NumPy, for the tests of src/importers.

    python scripts/record_dumps.py OUT --sglang DIR --flashinfer DIR

DIR are unpacked wheels of sglang and flashinfer-python. Their recorders are run as they are published: sglang's dumper.py and
tensor_dump_forward_hook.py, flashinfer's api_logging.py. What is theirs beside the recorder (servers, kernels) is stood in for
by the classes below, which have the modules, names, arguments and in-place writes of the originals and compute on the CPU.

Writes OUT/model, OUT/sglang-passes, OUT/sglang-dumper, OUT/flashinfer, with -fault beside
them the same with scores that are not scaled, and OUT/views.pt, arrays.npz, packed.npz, array.npy. Needs torch, numpy, safetensors.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KEY_HEADS, WIDTH, WORDS, PAGE = 32, 48, 2, 4, 2, 8, 64, 4
PROMPTS = [[5, 17, 40, 3, 22], [9, 33, 61]]
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": WIDTH,
    "hidden_act": "silu",
    "vocab_size": WORDS,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def weights():
    torch.manual_seed(11)
    shapes = {"model.embed_tokens.weight": (WORDS, HIDDEN), "lm_head.weight": (WORDS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm": (HIDDEN,),
            "post_attention_layernorm": (HIDDEN,),
            "self_attn.q_proj": (HEADS * WIDTH, HIDDEN),
            "self_attn.k_proj": (KEY_HEADS * WIDTH, HIDDEN),
            "self_attn.v_proj": (KEY_HEADS * WIDTH, HIDDEN),
            "self_attn.o_proj": (HIDDEN, HEADS * WIDTH),
            "self_attn.q_norm": (WIDTH,),
            "self_attn.k_norm": (WIDTH,),
            "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
            "mlp.up_proj": (INTERMEDIATE, HIDDEN),
            "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    drawn = {}
    for name, shape in shapes.items():
        draw = torch.randn(shape)
        value = torch.exp(0.4 * draw) if len(shape) == 1 else draw * (0.3 if "embed" in name else 0.9 / shape[1] ** 0.5)
        drawn[name] = value.to(torch.bfloat16)
    return drawn


# What kernels compute, in float32 and stored in bfloat16.


def normalise(x, weight, eps=1e-6):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def add_and_normalise(x, residual, weight):
    """Both are written in place, as the fused kernels do."""
    wide = x.float() + residual.float()
    residual.copy_(wide.to(residual.dtype))
    x.copy_((wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * weight.float()).to(x.dtype))


def rotate(x, positions):
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, WIDTH, 2).float() / WIDTH))
    angles = positions.float()[:, None] * frequencies
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    heads = x.view(x.shape[0], -1, WIDTH).float()
    first, second = heads.chunk(2, -1)
    out = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    return out.reshape(x.shape).to(x.dtype)


def attend(q, keys, values, first, scale):
    """Queries [rows, heads, width] from position `first` on over keys [length, key heads, width]."""
    length = keys.shape[0]
    mask = torch.arange(length)[None] <= first + torch.arange(q.shape[0])[:, None]
    wide = [t.float().repeat_interleave(HEADS // KEY_HEADS, 1).transpose(0, 1) for t in (keys, values)]
    scores = (q.float().transpose(0, 1) @ wide[0].transpose(1, 2) * scale).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ wide[1]).transpose(0, 1).to(q.dtype)


@dataclass
class ForwardBatch:
    input_ids: torch.Tensor
    positions: torch.Tensor
    seq_lens: torch.Tensor
    req_pool_indices: torch.Tensor
    rids: object = None


@dataclass
class LogitsProcessorOutput:
    next_token_logits: torch.Tensor


class PPProxyTensors:
    pass


def batches():
    """A prefill of both prompts, then a token each."""
    lengths = [len(prompt) for prompt in PROMPTS]
    slots = torch.tensor([3, 1])
    prefill = ForwardBatch(
        torch.tensor(sum(PROMPTS, [])), torch.cat([torch.arange(n) for n in lengths]), torch.tensor(lengths), slots
    )
    decode = ForwardBatch(torch.tensor([50, 12]), torch.tensor(lengths), torch.tensor(lengths) + 1, slots)
    return [prefill, decode]


# The modules of SGLang's Qwen3ForCausalLM.


class RMSNorm(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x, residual=None):
        if residual is None:
            return normalise(x, self.weight)
        x, residual = x.clone(), residual.clone()
        add_and_normalise(x, residual, self.weight)
        return x, residual


class Linear(nn.Module):
    def __init__(self, *weights):
        super().__init__()
        self.weight = nn.Parameter(torch.cat(weights), requires_grad=False)

    def forward(self, x):
        return functional.linear(x, self.weight), None


class RotaryEmbedding(nn.Module):
    def forward(self, positions, q, k):
        return rotate(q, positions), rotate(k, positions)


class RadixAttention(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.kept = {}

    def forward(self, q, k, v, batch):
        out, row = [], 0
        for slot, length in zip(batch.req_pool_indices.tolist(), batch.seq_lens.tolist()):
            first = int(batch.positions[row])
            stretch = slice(row, row + length - first)
            row = stretch.stop
            new = [t[stretch].view(-1, KEY_HEADS, WIDTH).clone() for t in (k, v)]
            keys, values = new if first == 0 else [torch.cat(pair) for pair in zip(self.kept[slot], new)]
            self.kept[slot] = (keys, values)
            out.append(attend(q[stretch].view(-1, HEADS, WIDTH), keys, values, first, self.scale))
        return torch.cat(out).reshape(q.shape)


class SiluAndMul(nn.Module):
    def forward(self, x):
        gate, up = x.float().chunk(2, -1)
        return (functional.silu(gate) * up).to(x.dtype)


class Qwen3Attention(nn.Module):
    def __init__(self, at, rotary, scale):
        super().__init__()
        self.qkv_proj = Linear(at("q_proj"), at("k_proj"), at("v_proj"))
        self.q_norm, self.k_norm = RMSNorm(at("q_norm")), RMSNorm(at("k_norm"))
        self.rotary_emb = rotary
        self.attn = RadixAttention(scale)
        self.o_proj = Linear(at("o_proj"))

    def forward(self, positions, hidden, batch):
        q, k, v = self.qkv_proj(hidden)[0].split([HEADS * WIDTH, KEY_HEADS * WIDTH, KEY_HEADS * WIDTH], -1)
        q = self.q_norm(q.reshape(-1, WIDTH)).view(q.shape)
        k = self.k_norm(k.reshape(-1, WIDTH)).view(k.shape)
        q, k = self.rotary_emb(positions, q, k)
        return self.o_proj(self.attn(q, k, v, batch))[0]


class Qwen3MLP(nn.Module):
    def __init__(self, at):
        super().__init__()
        self.gate_up_proj = Linear(at("gate_proj"), at("up_proj"))
        self.act_fn = SiluAndMul()
        self.down_proj = Linear(at("down_proj"))

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_up_proj(x)[0]))[0]


class Qwen3DecoderLayer(nn.Module):
    def __init__(self, at, layer, rotary, scale):
        super().__init__()
        self.layer_id = layer
        self.self_attn = Qwen3Attention(lambda name: at(f"self_attn.{name}"), rotary, scale)
        self.mlp = Qwen3MLP(lambda name: at(f"mlp.{name}"))
        self.input_layernorm = RMSNorm(at("input_layernorm"))
        self.post_attention_layernorm = RMSNorm(at("post_attention_layernorm"))

    def forward(self, positions, hidden, batch, residual):
        if residual is None:
            residual = hidden
            hidden = self.input_layernorm(hidden)
        else:
            hidden, residual = self.input_layernorm(hidden, residual)
        hidden = self.self_attn(positions, hidden, batch)
        hidden, residual = self.post_attention_layernorm(hidden, residual)
        return self.mlp(hidden), residual


class Qwen3Model(nn.Module):
    def __init__(self, stored, scale):
        super().__init__()
        self.embed_tokens = nn.Embedding.from_pretrained(stored["model.embed_tokens.weight"])
        rotary = RotaryEmbedding()
        self.layers = nn.ModuleList(
            Qwen3DecoderLayer(lambda name, n=n: stored[f"model.layers.{n}.{name}.weight"], n, rotary, scale) for n in range(LAYERS)
        )
        self.norm = RMSNorm(stored["model.norm.weight"])

    def forward(self, input_ids, positions, batch):
        hidden, residual = self.embed_tokens(input_ids), None
        for layer in self.layers:
            hidden, residual = layer(positions, hidden, batch, residual)
        return self.norm(hidden, residual)[0]


class LogitsProcessor(nn.Module):
    def forward(self, hidden, head, batch):
        last = torch.cumsum(batch.seq_lens - batch.positions[firsts(batch)], 0) - 1
        return LogitsProcessorOutput(functional.linear(hidden[last], head))


def firsts(batch):
    row, found = 0, []
    for length in batch.seq_lens.tolist():
        found.append(row)
        row += length - int(batch.positions[row])
    return torch.tensor(found)


class Qwen3ForCausalLM(nn.Module):
    def __init__(self, stored, scale=WIDTH**-0.5):
        super().__init__()
        self.model = Qwen3Model(stored, scale)
        self.head = stored["lm_head.weight"]
        self.logits_processor = LogitsProcessor()

    def forward(self, input_ids, positions, forward_batch):
        return self.logits_processor(self.model(input_ids, positions, forward_batch), self.head, forward_batch)


# The recorders.


def load(path, name, **stubs):
    """A module of a package that is not installed, as it is published; what it imports of the rest is stood in for."""
    for stub, content in stubs.items():
        module = types.ModuleType(stub)
        module.__dict__.update(content)
        sys.modules[stub] = module
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def sglang_stubs():
    packages = ["zmq", "sglang", "sglang.srt", "sglang.srt.managers", "sglang.srt.layers", "sglang.srt.model_executor"]
    # Loaded as standalone, the dumper does without its package.
    nothing = {name: {} for name in packages}
    return {
        **nothing,
        "sglang.srt.managers.io_struct": {"sock_recv": None, "sock_send": None, "wrap_as_pickle": None},
        "sglang.srt.runtime_context": {name: lambda: None for name in ("get_parallel", "get_server_args", "get_serving")},
        "sglang.srt.utils": {"get_device": lambda: "cpu"},
        "sglang.srt.layers.logits_processor": {"LogitsProcessorOutput": LogitsProcessorOutput},
        "sglang.srt.model_executor.forward_batch_info": {"ForwardBatch": ForwardBatch, "PPProxyTensors": PPProxyTensors},
    }


def record_passes(source, stored, out, scale, steps):
    hook = load(source / "sglang/srt/debug_utils/tensor_dump_forward_hook.py", "tensor_dump_forward_hook", **sglang_stubs())
    model = Qwen3ForCausalLM(stored, scale)
    dumper = hook.register_forward_hook_for_model(model, str(out), None, 1, 0, 0)
    for batch in steps:
        model(batch.input_ids, batch.positions, batch)
    Path(dumper.get_dump_dir()).rename(out / "TP0_PP0_Rank0_pid1")


def record_dumper(source, stored, out):
    module = load(source / "sglang/srt/debug_utils/dumper.py", "dumper", **sglang_stubs())
    # The plugin that knows SGLang's classes is not available outside of it; its reading of a batch is written out.
    module._SGLangPlugin._available = True
    module._SGLangPlugin.LogitsProcessorOutput = LogitsProcessorOutput
    module._SGLangPlugin.ForwardBatch = ForwardBatch
    module._SGLangPlugin.PPProxyTensors = PPProxyTensors
    module._SGLangPlugin.collect_parallel_info = lambda self: {"tp_rank": 0, "tp_size": 1}
    for name in ("UnreducedOutput", "OwedOutput"):
        path = "output" if name == "UnreducedOutput" else "residual.stream"
        for package in ("layer_boundary", "layer_boundary.residual", f"layer_boundary.{path}"):
            sys.modules.setdefault(f"sglang.srt.layers.{package}", types.ModuleType(package))
        setattr(sys.modules[f"sglang.srt.layers.layer_boundary.{path}"], name, type(name, (), {}))
    dumper = module.dumper
    dumper.configure(
        enable=True,
        dir=str(out.parent),
        exp_name=out.name,
        enable_output_console=False,
        non_intrusive_mode="all",
        filter="not search('inputs', name) or search('o_proj', name)",
    )
    model = Qwen3ForCausalLM(stored)
    dumper.register_non_intrusive_dumper(model)
    batch = batches()[0]
    model.forward(batch.input_ids, batch.positions, batch)
    dumper.step()


def record_flashinfer(source, stored, out, scale, steps):
    os.environ.update(FLASHINFER_LOGLEVEL="10", FLASHINFER_LOGDEST=os.devnull, FLASHINFER_DUMP_DIR=str(out))
    logging = load(source / "flashinfer/api_logging.py", "flashinfer.api_logging", flashinfer={"__path__": []})
    logging._attach_fi_trace = lambda wrapper, _original, trace_template=None: wrapper
    api = logging.flashinfer_api

    @api
    def rmsnorm(input: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6, out=None, enable_pdl=None) -> torch.Tensor:
        return normalise(input, weight, eps)

    @api
    def fused_add_rmsnorm(input: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6, enable_pdl=None) -> None:
        add_and_normalise(input, residual, weight)

    @api
    def silu_and_mul(input: torch.Tensor, out: torch.Tensor = None, enable_pdl=None) -> torch.Tensor:
        return SiluAndMul()(input)

    @api
    def apply_rope_with_cos_sin_cache_inplace(positions, query, key, head_size: int, cos_sin_cache, is_neox: bool = True) -> None:
        query.copy_(rotate(query, positions))
        key.copy_(rotate(key, positions))

    @api
    def append_paged_kv_cache(
        append_key, append_value, batch_indices, positions, paged_kv_cache, kv_indices, kv_indptr, kv_last_page_len, kv_layout: str = "NHD"
    ) -> None:
        for row, (b, position) in enumerate(zip(batch_indices.tolist(), positions.tolist())):
            page = kv_indices[kv_indptr[b] + position // PAGE]
            paged_kv_cache[page, 0, position % PAGE] = append_key[row]
            paged_kv_cache[page, 1, position % PAGE] = append_value[row]

    class PagedWrapper:
        def __repr__(self):
            return type(self).__name__

        def kept(self, cache, b):
            pages = self.indices[self.indptr[b] : self.indptr[b + 1]]
            length = (len(pages) - 1) * PAGE + int(self.last[b])
            return [cache[pages, side].reshape(-1, KEY_HEADS, WIDTH)[:length] for side in (0, 1)]

    class BatchPrefillWithPagedKVCacheWrapper(PagedWrapper):
        @api
        def plan(
            self, qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len, num_qo_heads: int, num_kv_heads: int,
            head_dim_qk: int, page_size: int, head_dim_vo=None, custom_mask=None, packed_custom_mask=None, causal: bool = False,
        ) -> None:
            self.qo, self.indptr, self.indices, self.last = qo_indptr, paged_kv_indptr, paged_kv_indices, paged_kv_last_page_len

        @api
        def run(self, q: torch.Tensor, paged_kv_cache, *args, out=None, lse=None, return_lse: bool = False):
            parts = []
            for b in range(len(self.last)):
                keys, values = self.kept(paged_kv_cache, b)
                rows = q[self.qo[b] : self.qo[b + 1]]
                parts.append(attend(rows, keys, values, len(keys) - len(rows), scale))
            return torch.cat(parts)

    class BatchDecodeWithPagedKVCacheWrapper(PagedWrapper):
        @api
        def plan(
            self, indptr, indices, last_page_len, num_qo_heads: int, num_kv_heads: int, head_dim: int, page_size: int,
            *deprecated_positional_args, **kwargs,
        ) -> None:
            self.indptr, self.indices, self.last = indptr, indices, last_page_len

        @api
        def run(self, q: torch.Tensor, paged_kv_cache, *args, out=None, lse=None, return_lse: bool = False):
            each = [self.kept(paged_kv_cache, b) for b in range(len(self.last))]
            return torch.cat([attend(q[b : b + 1], keys, values, len(keys) - 1, scale) for b, (keys, values) in enumerate(each)])

    caches = [torch.zeros(6, 2, PAGE, KEY_HEADS, WIDTH, dtype=torch.bfloat16) for _ in range(LAYERS)]
    pages = [[4, 1], [2]]
    for batch in steps:
        lengths = batch.seq_lens
        ints = lambda values: torch.tensor(values, dtype=torch.int32)  # noqa: E731
        indptr, indices, last = ints([0, 2, 3]), ints(sum(pages, [])), ints([(n - 1) % PAGE + 1 for n in lengths.tolist()])
        counts = lengths - batch.positions[firsts(batch)]
        if int(counts.max()) > 1:
            wrapper = BatchPrefillWithPagedKVCacheWrapper()
            qo = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).to(torch.int32)
            wrapper.plan(qo, indptr, indices, last, HEADS, KEY_HEADS, WIDTH, PAGE, causal=True)
        else:
            wrapper = BatchDecodeWithPagedKVCacheWrapper()
            wrapper.plan(indptr, indices, last, HEADS, KEY_HEADS, WIDTH, PAGE)
        owner = torch.repeat_interleave(torch.arange(2), counts).to(torch.int32)
        x, residual = functional.embedding(batch.input_ids, stored["model.embed_tokens.weight"]), None
        for layer in range(LAYERS):
            at = lambda name, n=layer: stored[f"model.layers.{n}.{name}.weight"]  # noqa: E731
            if residual is None:
                residual = x.clone()
                x = rmsnorm(x, at("input_layernorm"), 1e-6)
            else:
                fused_add_rmsnorm(x, residual, at("input_layernorm"), 1e-6)
            rows = len(x)
            product = torch.cat([at(f"self_attn.{name}_proj") for name in "qkv"])
            q, k, v = functional.linear(x, product).split([HEADS * WIDTH, KEY_HEADS * WIDTH, KEY_HEADS * WIDTH], -1)
            q = rmsnorm(q.reshape(-1, WIDTH), at("self_attn.q_norm"), 1e-6).view(rows, -1)
            k = rmsnorm(k.reshape(-1, WIDTH), at("self_attn.k_norm"), 1e-6).view(rows, -1)
            apply_rope_with_cos_sin_cache_inplace(batch.positions, q, k, WIDTH, torch.zeros(1, WIDTH))
            heads = lambda t: t.view(rows, -1, WIDTH)  # noqa: E731
            append_paged_kv_cache(
                heads(k), heads(v), owner, batch.positions.to(torch.int32), caches[layer], indices, indptr, last
            )
            mixed = wrapper.run(heads(q), caches[layer])
            x = functional.linear(mixed.reshape(rows, -1), at("self_attn.o_proj"))
            fused_add_rmsnorm(x, residual, at("post_attention_layernorm"), 1e-6)
            both = functional.linear(x, torch.cat([at("mlp.gate_proj"), at("mlp.up_proj")]))
            x = functional.linear(silu_and_mul(both), at("mlp.down_proj"))
        fused_add_rmsnorm(x, residual, stored["model.norm.weight"], 1e-6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sglang", type=Path, required=True)
    parser.add_argument("--flashinfer", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    (out / "model").mkdir(parents=True)
    stored = weights()
    (out / "model/config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file(stored, out / "model/model.safetensors")
    with torch.no_grad():
        record_passes(arguments.sglang, stored, out / "sglang-passes", WIDTH**-0.5, batches())
        record_passes(arguments.sglang, stored, out / "sglang-passes-fault", 1.0, batches()[:1])
        record_dumper(arguments.sglang, stored, out / "sglang-dumper")
        record_flashinfer(arguments.flashinfer, stored, out / "flashinfer", WIDTH**-0.5, batches())
        record_flashinfer(arguments.flashinfer, stored, out / "flashinfer-fault", 1.0, batches()[:1])
    base = torch.arange(24, dtype=torch.float32).view(4, 6)
    torch.save(
        {
            "whole": base,
            "turned": base.t(),
            "part": base[1:3, 2:5],
            "half": base.to(torch.bfloat16),
            "eighth": base.to(torch.float8_e4m3fn),
            "nested": [{"ids": torch.arange(3)}, (torch.ones(2, dtype=torch.float16), None, "text", 2.5)],
            "weight": nn.Parameter(torch.ones(2)),
        },
        out / "views.pt",
    )
    arrays = {"rows": base.numpy(), "columns": numpy.asfortranarray(base.numpy()), "half": base.numpy().astype(numpy.float16)}
    numpy.savez(out / "arrays.npz", **arrays)
    numpy.savez_compressed(out / "packed.npz", **arrays)
    numpy.save(out / "array.npy", base.numpy())


if __name__ == "__main__":
    main()
