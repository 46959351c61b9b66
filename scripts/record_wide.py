"""Record a correct run of Qwen3-0.6B's width, three layers, on this machine's GPU or CPU.

    python scripts/record_wide.py OUT [--tokens 32] [--dtype bfloat16] [--attention sdpa]

Writes OUT/{config.json, model.safetensors} and OUT/DTYPE_ATTENTION.safetensors. Weights are a function of their place
alone (weight_values below, and test/diagnose/wide-model.ts), so that a recording can be kept without its checkpoint.
Needs torch, transformers and safetensors.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.models.qwen3 import modeling_qwen3

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 3,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 2048,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "dtype": "bfloat16",
}


def shapes(config):
    width, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        path = f"model.layers.{layer}"
        yield f"{path}.input_layernorm.weight", (width,)
        yield f"{path}.self_attn.q_proj.weight", (queries, width)
        yield f"{path}.self_attn.k_proj.weight", (keys, width)
        yield f"{path}.self_attn.v_proj.weight", (keys, width)
        yield f"{path}.self_attn.q_norm.weight", (head,)
        yield f"{path}.self_attn.k_norm.weight", (head,)
        yield f"{path}.self_attn.o_proj.weight", (width, queries)
        yield f"{path}.post_attention_layernorm.weight", (width,)
        yield f"{path}.mlp.gate_proj.weight", (inner, width)
        yield f"{path}.mlp.up_proj.weight", (inner, width)
        yield f"{path}.mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)


def weight_values(index, shape):
    """Multiples of 2^-6 in [-1, 1) for matrices, of 2^-3 in [0.5, 2.5) for norms, by a hash of parameter and place."""
    count = int(np.prod(shape))
    hashed = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(index) * np.uint32(40503)
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(2246822519)
    hashed ^= hashed >> np.uint32(13)
    if len(shape) == 1:
        return (0.5 + (hashed >> np.uint32(28)).astype(np.float32) / 8).reshape(shape)
    values = (hashed >> np.uint32(25)).astype(np.float32) / 64 - 1
    # A power of two, so that bfloat16 holds the product.
    return (values * np.float32(2.0 ** -round(np.log2(shape[1]) / 2))).reshape(shape)


def write_checkpoint(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    tensors = {}
    for index, (name, shape) in enumerate(shapes(CONFIG)):
        tensors[name] = torch.from_numpy(weight_values(index, shape)).to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def record(model, token_ids):
    """Every module's output, the input of o_proj, and rotated queries and keys, under the names of modules."""
    values = {"input_ids": token_ids}
    keep = lambda name, value: values.__setitem__(name, value.detach().cpu().clone().contiguous())  # noqa: E731

    def after(name):
        def hook(_, __, output):
            keep(name, output[0] if isinstance(output, tuple) else output)

        return hook

    handles = []
    for name, module in model.named_modules():
        if name in ("", "model", "model.layers", "model.rotary_emb"):
            continue
        handles.append(module.register_forward_hook(after(name)))
        if name.endswith("o_proj"):
            handles.append(module.register_forward_pre_hook(lambda _, args, name=name: keep(f"{name}.input", args[0])))
    layer = iter(range(model.config.num_hidden_layers))
    rotate = modeling_qwen3.apply_rotary_pos_emb

    def rotated(*arguments, **options):
        query, key = rotate(*arguments, **options)
        path = f"model.layers.{next(layer)}.self_attn"
        keep(f"{path}.q_rope", query)
        keep(f"{path}.k_rope", key)
        return query, key

    modeling_qwen3.apply_rotary_pos_emb = rotated
    try:
        with torch.no_grad():
            model(token_ids.to(model.device), use_cache=False)
    finally:
        modeling_qwen3.apply_rotary_pos_emb = rotate
        for handle in handles:
            handle.remove()
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    arguments = parser.parse_args()
    write_checkpoint(arguments.out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        arguments.out, dtype=getattr(torch, arguments.dtype), attn_implementation=arguments.attention
    )
    model = model.to(device).eval()
    vocabulary = CONFIG["vocab_size"]
    token_ids = torch.tensor([[(7 * i * i + 11 * i + 3) % vocabulary for i in range(arguments.tokens)]])
    values = record(model, token_ids)
    values["logits"] = values.pop("lm_head")
    target = arguments.out / f"{arguments.dtype}_{arguments.attention}.safetensors"
    save_file(values, target, metadata={"device": torch.cuda.get_device_name() if device == "cuda" else "CPU"})
    print(target, sum(v.numel() * v.element_size() for v in values.values()) // 1024, "KiB")


if __name__ == "__main__":
    main()
