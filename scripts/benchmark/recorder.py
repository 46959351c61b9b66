"""What recording costs: time per forward pass and bytes per token, of a model as it is and recorded in several ways.

    python scripts/benchmark/recorder.py MODEL_DIR [--prompt 128] [--tokens 16] [--device cpu] [--dtype bfloat16]

Needs ./python installed, torch and transformers 5.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import faultline

WAYS = {
    "not recorded": None,
    "everything": {},
    "without caches": {"names": "!*_cache"},
    "layers 0-3": {"layers": "0-3"},
    "layers 0-3, 2 steps": {"layers": "0-3", "steps": "0:2"},
}
REPEATS = 5


def measure(run, model, way):
    """Median seconds of a run, and bytes written."""
    seconds, size = [], 0
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with nullcontext() if way is None else faultline.record(model, Path(folder) / "run", max_bytes=2**40, **way):
                run()
            seconds.append(time.perf_counter() - start)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return statistics.median(seconds), size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=16, help="tokens to generate")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model_dir, dtype=getattr(torch, options.dtype), local_files_only=True)
    model = model.eval().to(options.device)
    ids = torch.arange(options.prompt, device=options.device)[None] % model.config.vocab_size

    def run():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=options.tokens, do_sample=False, pad_token_id=0, eos_token_id=None)

    run()
    total = options.prompt + options.tokens - 1
    print(f"{options.tokens} passes over {total} tokens, {options.dtype} on {options.device}, torch {torch.__version__}")
    for name, way in WAYS.items():
        seconds, size = measure(run, model, way)
        print(f"{name:22} {1000 * seconds / options.tokens:8.1f} ms per pass {size / total / 1024:10.1f} KiB per token")


if __name__ == "__main__":
    main()
