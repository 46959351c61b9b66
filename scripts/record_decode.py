"""Record greedy generations by transformers with its own KV cache, step by step, as capture directories.

    python scripts/record_decode.py OUT CHECKPOINT... [--all] [--faults]

For each checkpoint folder writes OUT/NAME/decode_bf16_sdpa, with --all every dtype, attention and way of computing experts;
with --faults also OUT/NAME/decode_faults/FAULT: a run whose decoding has one thing wrong.
Needs torch, transformers 5 and safetensors.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, DynamicCache

sys.path.insert(0, str(Path(__file__).resolve().parent))
from record_plain import record  # noqa: E402

# These attend in a way that SDPA cannot: capped scores, sinks.
EAGER_ALONE = ("gemma2", "gpt_oss")


def generate(model, prompt, count, folder, layers=None, between=None):
    """Prefill of `prompt` [batch, token], then `count` steps of one token per sequence, recorded in `folder`.

    `between(cache, step)` is called before each step.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    dtype = str(model.dtype).removeprefix("torch.")
    manifest = {
        "format": "faultline-capture",
        "version": 1,
        "runtime": {"name": "transformers", "device": "cpu", "dtype": dtype},
        "dims": {"*.q_rope": "b h t d", "*.k_rope": "b h t d"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest) + "\n")
    cache = DynamicCache(config=model.config)
    tokens = prompt
    with open(folder / "events.jsonl", "w") as lines:
        for step in range(count + 1):
            past = cache.get_seq_length()
            if between:
                between(cache, step)
            values = record(model, tokens, layers, cache)
            chosen = values.get("logits", values["lm_head"])[:, -1].argmax(-1)
            events, tensors = step_of(step, past, values)
            save_file(tensors, folder / f"step-{step:05}.safetensors")
            sample = {"event": "sample", "step": step, "token_ids": chosen.tolist()}
            lines.writelines(json.dumps(event, separators=(",", ":")) + "\n" for event in [*events, sample])
            tokens = chosen.unsqueeze(1)


def step_of(step, past, values):
    """The events of a step, and the tensors they name. `past`: how many tokens of each sequence the cache held before."""
    tokens = values.pop("input_ids")
    batch, count = tokens.shape
    keys = past + count
    caches = {name: cache for name, cache in values.items() if name.endswith("_cache") and cache.shape[2] == keys}
    begin = {
        "event": "step",
        "step": step,
        "seq_ids": list(range(batch)),
        "token_ids": tokens.flatten().tolist(),
        "qo_indptr": list(range(0, batch * count + 1, count)),
    }
    if caches:
        # A sequence's keys are one page, new at every step, since torch.cat makes it.
        begin |= {
            "kv_indptr": list(range(batch + 1)),
            "kv_indices": list(range(batch)),
            "kv_last_page_len": [keys] * batch,
            "page_size": keys,
        }
    events, tensors = [begin], {}
    for number, (name, tensor) in enumerate(values.items()):
        storage = f"s{number}"
        view = {"storage": storage, "epoch": step, "dtype": str(tensor.dtype).removeprefix("torch.")}
        event = {"event": "value", "step": step, "name": name, "role": "output", "view": view}
        if name in caches:
            _, heads, _, width = tensor.shape
            event |= {"role": "input", "by": "attention"}
            strides = [heads * keys * width, width, keys * width, 1]
            view |= {"layout": "HND", "page_size": keys, "heads": heads, "head_dim": width}
            view |= {"strides": strides, "offset": 0, "pages": list(range(batch))}
            tensors |= {f"{storage}@{step}/p{page}": tensor[page].flatten() for page in range(batch)}
        elif name.endswith("_cache"):
            # Of a window the cache keeps the last keys alone, whose places no table of pages says.
            continue
        else:
            view |= {"shape": list(tensor.shape), "strides": list(tensor.stride()), "offset": 0}
            tensors[f"{storage}@{step}"] = tensor.flatten()
        events.append(event)
    return events, tensors


def decoding(tensor):
    """Whether [..., token, channel] is of one new token."""
    return tensor.shape[-2] == 1


def position_too_far(model):
    """RoPE counts the newest token twice, in decoding alone."""

    def further(_module, arguments, keywords):
        states, positions, *rest = [*arguments, *([keywords.pop("position_ids")] if "position_ids" in keywords else [])]
        return (states, positions + decoding(states), *rest), keywords

    model.model.rotary_emb.register_forward_pre_hook(further, with_kwargs=True)


def appended(change):
    """What change(key, value, layer's cache) gives is kept of a new token instead of its key and value."""

    def patch(cache, step):
        if step != 0:
            return
        for layer in cache.layers:

            def update(key, value, *rest, _layer=layer, _update=layer.update, **keywords):
                if decoding(key):
                    key, value = change(key, value, _layer)
                return _update(key, value, *rest, **keywords)

            layer.update = update

    return patch


def layers_exchanged(cache, step):
    """From the second decode on, two layers have each other's cache."""
    if step == 2:
        first, second = cache.layers[:2]
        first.keys, first.values, second.keys, second.values = second.keys, second.values, first.keys, first.values


def sequences_exchanged(cache, step):
    """From the second decode on, two sequences have each other's cache."""
    if step == 2:
        for layer in cache.layers:
            layer.batch_select_indices(torch.tensor([1, 0]))


# What is done to the model, and to the cache before each step.
FAULTS = {
    "position-too-far": (position_too_far, None),
    "key-of-the-token-before": (None, appended(lambda key, value, layer: (layer.keys[:, :, -1:], value))),
    "value-not-written": (None, appended(lambda key, value, _layer: (key, torch.zeros_like(value)))),
    "layers-exchanged": (None, layers_exchanged),
    "sequences-exchanged": (None, sequences_exchanged),
}


def load(folder, dtype, attention, experts):
    """`experts`: how a mixture computes them; None of a model without."""
    choice = {} if experts is None else {"experts_implementation": experts}
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, local_files_only=True, **choice
    ).eval()


def prompts(batch, count, vocabulary):
    """Different tokens in every sequence."""
    return torch.tensor([[(7 * i * i + 11 * i + 3 + 29 * b) % vocabulary for i in range(count)] for b in range(batch)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--sequences", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=6, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=4, help="decode steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for checkpoint in options.checkpoints:
        config = json.loads((checkpoint / "config.json").read_text())
        family, vocabulary = config["model_type"], config["vocab_size"]
        out = options.out / checkpoint.name
        attentions = ["eager"] if family in EAGER_ALONE else ["sdpa", "eager"]
        ways = ["grouped_mm", "eager", "batched_mm"] if "num_experts_per_tok" in config else [None]
        for short, dtype in [("bf16", torch.bfloat16), ("fp32", torch.float32)] if options.all else [("bf16", torch.bfloat16)]:
            for attention in attentions if options.all else attentions[:1]:
                for experts in ways if options.all else ways[:1]:
                    name = f"decode_{short}_{attention}" + ("" if experts == ways[0] else f"_{experts}")
                    model = load(checkpoint, dtype, attention, experts)
                    prompt = prompts(options.sequences, options.prompt, vocabulary)
                    generate(model, prompt, options.steps, out / name)
        if not options.faults:
            continue
        for name, (patch, between) in FAULTS.items():
            model = load(checkpoint, torch.bfloat16, attentions[0], ways[0])
            if patch:
                patch(model)
            several = name == "sequences-exchanged"
            layers = None if several else [0, 1]
            generate(model, prompts(1 + several, 5, vocabulary), 2, out / "decode_faults" / name, layers, between)


if __name__ == "__main__":
    main()
