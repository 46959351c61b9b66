"""Make a tiny random checkpoint of every family and record what transformers computes with it on the CPU.

    python scripts/record_families.py OUT [--families gemma2,phi3] [--faults] [--tokens 20]

Writes OUT/FAMILY/{config.json, model.safetensors} and OUT/FAMILY/{bf16,fp32}_{eager,sdpa}.safetensors; with --faults also
OUT/FAMILY/faults/NAME.safetensors, each with one thing wrong that family_faults.py patches into the model's own code.
Needs torch, transformers 5 and safetensors. The same versions and seed give the same bytes on one kind of CPU.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent))
from family_faults import FAULTS  # noqa: E402
from record_plain import load, record  # noqa: E402

COMMON = {
    "hidden_size": 72,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
FAMILIES = {
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 7,
        "max_window_layers": 1,
        "rope_theta": 1000000.0,
    },
    "qwen3": {"rope_theta": 1000000.0, "tie_word_embeddings": True},
    "llama": {
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "smollm2": {
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 8,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    },
    "mistral": {"sliding_window": 7, "rope_theta": 10000.0},
    "gemma2": {
        "sliding_window": 7,
        "layer_types": SLIDING,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        "sliding_window": 7,
        "layer_types": SLIDING,
        "query_pre_attn_scalar": 24,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
    "phi3": {
        "hidden_size": 64,
        "head_dim": None,
        "original_max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 128,
            "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5],
            "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0],
        },
    },
    "smollm3": {"no_rope_layers": [1, 0, 1], "rope_theta": 20000.0},
    "olmo2": {"rope_theta": 500000.0},
    "olmo3": {
        "sliding_window": 7,
        "layer_types": SLIDING,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
        },
    },
    "granite": {
        "embedding_multiplier": 6.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": 0.12,
        "logits_scaling": 6.0,
    },
}


# SmolLM2 is Llama's code.
CODE_OF = {"smollm2": "llama"}


def make_checkpoint(family, folder):
    """A random model with the unequal norm weights of trained ones, in bfloat16."""
    fields = {key: value for key, value in {**COMMON, **FAMILIES[family]}.items() if value is not None}
    config = AutoConfig.for_model(CODE_OF.get(family, family), **fields)
    torch.manual_seed(20)
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape)
            if parameter.ndim == 1:
                # Gemma stores the weights of its norms minus one.
                values = torch.exp(0.4 * draw) - (1 if family.startswith("gemma") else 0)
            elif "embed" in name:
                values = 0.3 * draw
            else:
                values = 0.9 * draw / parameter.shape[1] ** 0.5
            parameter.copy_(values)
    model.to(torch.bfloat16).save_pretrained(folder)
    for unwanted in folder.glob("generation_config.json"):
        unwanted.unlink()


def tokens(count):
    return torch.tensor([[(7 * i * i + 11 * i + 3) % COMMON["vocab_size"] for i in range(count)]])


def faulty(model, name):
    """What shows a fault in few bytes: two layers, or what stands behind them for a fault of the logits."""
    behind = "logits" in name
    tensors = record(model, tokens(12), layers=[2] if behind else [0, 1])
    ends = ("model.norm", "lm_head", "logits")
    if behind:
        return {key: value for key, value in tensors.items() if key in (*ends, "input_ids", "model.layers.2")}
    return {key: value for key, value in tensors.items() if key not in ends}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--tokens", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for family in options.families.split(","):
        folder = options.out / family
        folder.mkdir(parents=True, exist_ok=True)
        make_checkpoint(family, folder)
        # Gemma 2 caps its scores, which SDPA cannot.
        for attention in ["eager"] if family == "gemma2" else ["eager", "sdpa"]:
            for short, dtype in [("bf16", torch.bfloat16), ("fp32", torch.float32)]:
                model = load(folder, dtype, attention)
                # Twice as wide, and fewer tokens are enough.
                count = options.tokens if short == "bf16" else options.tokens * 3 // 5
                save_file(record(model, tokens(count)), folder / f"{short}_{attention}.safetensors")
        if not options.faults:
            continue
        (folder / "faults").mkdir(exist_ok=True)
        for name, patch in FAULTS[family].items():
            model = load(folder, torch.bfloat16, "eager")
            code = sys.modules[type(model).__module__]
            functions = dict(vars(code))
            patch(model)
            save_file(faulty(model, name), folder / "faults" / f"{name}.safetensors")
            vars(code).update(functions)


if __name__ == "__main__":
    main()
