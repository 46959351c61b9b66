"""Record what every module of a Hugging Face decoder returns on a prompt, as one plain safetensors file: what test/golden is
made with. To record runs of your own: docs/recording.md.

    python record_plain.py MODEL_DIR OUT --prompt "Call me Ishmael." [--dtype bfloat16] [--attention sdpa]
        [--device cuda] [--tf32] [--layers 0,1,13,27]
    python record_plain.py MODEL_DIR OUT --ids 17,4,905 8,15,2

Several prompts, or several lists of ids, are one batch and must be equally long: nothing is padded.

Tensors are named as in `model.named_modules()` and keep the dtype they were produced in. Axes are [batch, token, channel],
q_norm and k_norm [batch, token, head, channel] or [batch, head, token, channel], as the model has them. More names stand
for values that no module returns:
    input_ids                      [batch, token], I32
    ...self_attn.q_rope            [batch, head, token, channel], the queries as attention received them
    ...self_attn.k_rope            [batch, key head, token, channel], the keys as attention received them
    ...self_attn.o_proj.input      [batch, token, channel], attention's output as o_proj received it
    logits                         [batch, token, word], what the model makes of lm_head's result, where it makes something
    ...gate.scores, .indices       [batch, token, chosen], the weights and the experts a router chose (gpt-oss: ...router)
Needs torch, transformers 5 and safetensors.
"""

import argparse
import re
from contextlib import ExitStack, contextmanager

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import AttentionInterface

# Their results are intermediate values of the unit around them (act_fn), or no tensor of the model's data flow (rotary_emb).
UNRECORDED = ("act_fn", "activation_fn", "rotary_emb", "dropout")
# Settings of models that change the logits behind lm_head.
AFTER_HEAD = ("final_logit_softcapping", "logits_scaling")
LAYER = re.compile(r"\.layers\.(\d+)(?:\.|$)")


def record(model, input_ids, layers=None, cache=None):
    """Run `model` once on `input_ids` [batch, token] and return {name: tensor on the CPU}.

    `layers`: the decoder layers to record (default all). Modules outside the layers are always recorded. A module that the
    model does not call leaves no tensor. `cache`: a transformers Cache that holds the tokens before and takes these; then
    `...self_attn.k_cache` and `.v_cache` [batch, head, key, channel] are what attention read of it.
    """
    tensors = {"input_ids": input_ids.to("cpu", torch.int32)}
    attention_names = {}

    def save(name, tensor):
        # Copied at once: a later in-place write must not reach the record.
        tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()

    def save_output(name):
        def hook(_module, _inputs, output):
            for value, tensor in (routing_values(name, output) or {name: first(output)}).items():
                save(value, by_sequence(tensor, input_ids))

        return hook

    def save_input(name):
        return lambda _module, inputs: save(name, inputs[0])

    def save_attention_operands(module, query, key, value):
        if module not in attention_names:
            return
        name = attention_names[module]
        save(f"{name}.q_rope", query)
        if cache is None:
            save(f"{name}.k_rope", key)
        else:
            save(f"{name}.k_cache", key)
            save(f"{name}.v_cache", value)

    def save_appended(layer, key):
        for module, name in attention_names.items():
            if module.layer_idx == layer:
                save(f"{name}.k_rope", key)

    with ExitStack() as observers:
        for name, module in model.named_modules():
            layer = LAYER.search(name)
            if layer and layers is not None and int(layer.group(1)) not in layers:
                continue
            if name.endswith("self_attn"):
                attention_names[module] = name
            if name.endswith("self_attn.o_proj"):
                observers.enter_context(removing(module.register_forward_pre_hook(save_input(f"{name}.input"))))
            if name not in ("", model.base_model_prefix) and not name.endswith(UNRECORDED):
                observers.enter_context(removing(module.register_forward_hook(save_output(name))))
        observers.enter_context(observed_attention(save_attention_operands))
        if cache is not None:
            observers.enter_context(observed_cache(cache, save_appended))
        with torch.no_grad():
            logits = model(input_ids=input_ids, past_key_values=cache, use_cache=cache is not None).logits
    if any(getattr(model.config, name, None) is not None for name in AFTER_HEAD):
        save("logits", logits)
    return tensors


def first(output):
    return output[0] if isinstance(output, tuple) else output


def routing_values(name, output):
    """What a router returns, by name: its logits, the weights of the chosen experts and their indices; None of other modules."""
    if not isinstance(output, tuple) or len(output) != 3 or output[2] is None or output[2].is_floating_point():
        return None
    logits, scores, indices = output
    return {name: logits, f"{name}.scores": scores, f"{name}.indices": indices}


def by_sequence(tensor, input_ids):
    """Experts work on the tokens of all sequences in a row, [batch * token, ...]: [batch, token, ...] again."""
    if tensor.dim() == 2 and tensor.shape[0] == input_ids.numel():
        return tensor.reshape(*input_ids.shape, tensor.shape[1])
    return tensor


@contextmanager
def removing(handle):
    """Remove a hook at the end, also when the run fails."""
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def observed_attention(observe):
    """Within it, observe(module, query, key, value) sees what each attention call receives, whichever implementation it is."""
    original = AttentionInterface.get_interface

    def get_interface(self, *arguments, **options):
        attend = original(self, *arguments, **options)

        def observed(module, query, key, value, *rest, **keywords):
            observe(module, query, key, value)
            return attend(module, query, key, value, *rest, **keywords)

        return observed

    AttentionInterface.get_interface = get_interface
    try:
        yield
    finally:
        AttentionInterface.get_interface = original


@contextmanager
def observed_cache(cache, observe):
    """Within it, observe(layer, key) sees the keys that each layer gives to `cache`."""
    append = cache.update

    def update(key, value, layer, *rest, **keywords):
        observe(layer, key)
        return append(key, value, layer, *rest, **keywords)

    cache.update = update
    try:
        yield
    finally:
        cache.update = append


def load(model_dir, dtype=torch.bfloat16, attention="sdpa", device="cpu"):
    """The model of `model_dir` in evaluation mode, from local files only."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, attn_implementation=attention, local_files_only=True)
    return model.eval().to(device)


def allow_tf32(allowed):
    """Let float32 matrix products on CUDA round their operands to TF32, or forbid it."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def encode(model_dir, prompts):
    """Token ids of each prompt, a list of lists."""
    return AutoTokenizer.from_pretrained(model_dir, local_files_only=True)(list(prompts)).input_ids


def integers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("out", help="the safetensors file to write")
    tokens = parser.add_mutually_exclusive_group(required=True)
    tokens.add_argument("--prompt", nargs="+", help="one text per sequence")
    tokens.add_argument("--ids", nargs="+", type=integers, help="one comma-separated list of token ids per sequence")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tf32", action="store_true", help="allow TF32 in float32 matrix products")
    parser.add_argument("--layers", type=integers, help="record these layers only, such as 0,1,13,27")
    options = parser.parse_args()

    ids = options.ids or encode(options.model_dir, options.prompt)
    if len({len(sequence) for sequence in ids}) != 1:
        parser.error(f"the sequences must be equally long, but have {[len(sequence) for sequence in ids]} tokens")
    allow_tf32(options.tf32)
    model = load(options.model_dir, getattr(torch, options.dtype), options.attention, options.device)
    tensors = record(model, torch.tensor(ids, device=options.device), options.layers)
    save_file(tensors, options.out)
    print(f"{options.out}: {len(tensors)} tensors, most likely next tokens {tensors['lm_head'][:, -1].argmax(-1).tolist()}")


if __name__ == "__main__":
    main()
