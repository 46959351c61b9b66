"""Record a greedy generation by transformers with its own KV cache, step by step, as a capture directory.

`generate(model, prompt, count, folder)` is what record_families.py and record_moe.py call.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import DynamicCache

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from record_huggingface import record  # noqa: E402


def generate(model, prompt, count, folder, layers=None, between=None):
    """Prefill of `prompt` [batch, token], then `count` steps of one token per sequence, recorded in `folder`.

    `between(cache, step)` may change the cache before a step: a fault.
    """
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
            if between:
                between(cache, step)
            past = cache.get_seq_length()
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
        "positions": list(range(past, keys)) * batch,
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
    for name, tensor in values.items():
        view = {"storage": name, "epoch": step, "dtype": str(tensor.dtype).removeprefix("torch.")}
        event = {"event": "value", "step": step, "name": name, "role": "output", "view": view}
        if name in caches:
            _, heads, _, width = tensor.shape
            event |= {"role": "input", "by": "attention"}
            strides = [heads * keys * width, width, keys * width, 1]
            view |= {"layout": "HND", "page_size": keys, "heads": heads, "head_dim": width}
            view |= {"strides": strides, "offset": 0, "pages": list(range(batch))}
            tensors |= {f"{name}@{step}/p{page}": tensor[page].flatten() for page in range(batch)}
        elif name.endswith("_cache"):
            # Of a window the cache keeps the last keys alone, whose places no table of pages says.
            continue
        else:
            view |= {"shape": list(tensor.shape), "strides": list(tensor.stride()), "offset": 0}
            tensors[f"{name}@{step}"] = tensor.flatten()
        events.append(event)
    return events, tensors
