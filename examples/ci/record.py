"""Records one short run of the model that is tested: put your own engine's run in its place.

    python record.py MODEL OUT
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import faultline

model_folder, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model_folder)
model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
if torch.cuda.is_available():
    model.to("cuda")
inputs = tokenizer("Call me Ishmael. Some years ago", return_tensors="pt").to(model.device)
with faultline.record(model, out, steps="0:4"):
    model.generate(**inputs, max_new_tokens=4, do_sample=False)
