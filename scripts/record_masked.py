"""
Records a short generation of three unequal prompts, padded on the left, with SDPA on the CPU: over a StaticCache its kernel
runs over columns of padding and free slots, masked. Attention of one layer, as python/faultline records it.

    python scripts/record_masked.py OUT --model models/ishmael-7m
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
import faultline  # noqa: E402

PROMPTS = ["Call me Ishmael. Some years ago—never mind how long", "It was", "Queer citizens of the deep sea, whale"]
#: What attention reads and gives, and nothing else.
NAMES = "*.q_rope,*.k_rope,*.v_proj,*.k_cache,*.v_cache,*.o_proj.input"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    with torch.no_grad(), faultline.record(model, options.out, layers="1", names=NAMES):
        model.generate(**inputs, max_new_tokens=5, do_sample=False, cache_implementation="static")


if __name__ == "__main__":
    main()
