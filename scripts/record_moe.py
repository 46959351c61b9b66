"""Make the tiny mixtures of experts of test/golden/moe and record Hugging Face's own code on them, correct and with faults.

    python scripts/record_moe.py [OUT] [--common]

Needs what record_plain.py needs; made with torch 2.15 and transformers 5.23 on a CPU. Each family gets a folder
with config.json, model.safetensors, its recordings `<dtype>-<attention>-<experts>.safetensors`, and `fault-<name>.safetensors`:
the same run with one line of Hugging Face's code changed; with --common also `common-<name>.safetensors`, mistakes that are not
in experts.
"""

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Glm4MoeConfig, GptOssConfig, MixtralConfig, Qwen2MoeConfig, Qwen3MoeConfig
from transformers.models.glm4_moe import modeling_glm4_moe as glm4_moe
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.mixtral import modeling_mixtral as mixtral
from transformers.models.qwen2_moe import modeling_qwen2_moe as qwen2_moe
from transformers.models.qwen3_moe import modeling_qwen3_moe as qwen3_moe

sys.path.insert(0, str(Path(__file__).parent))
import family_faults
from record_plain import record

SIZES = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, vocab_size=160, max_position_embeddings=256)

CONFIGS = {
    "qwen3_moe": Qwen3MoeConfig(
        **SIZES, head_dim=16, intermediate_size=80, moe_intermediate_size=24, num_hidden_layers=3, num_experts=8,
        num_experts_per_tok=3, mlp_only_layers=[1], norm_topk_prob=True,
    ),
    "qwen2_moe": Qwen2MoeConfig(
        **SIZES, intermediate_size=80, moe_intermediate_size=24, shared_expert_intermediate_size=32, num_hidden_layers=2,
        num_experts=8, num_experts_per_tok=3,
    ),
    "mixtral": MixtralConfig(
        **SIZES, intermediate_size=40, num_hidden_layers=2, num_local_experts=6, num_experts_per_tok=2,
    ),
    "gpt_oss": GptOssConfig(
        rope_parameters={"rope_type": "yarn", "rope_theta": 150000.0, "factor": 4.0, "original_max_position_embeddings": 64,
                         "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
        **SIZES, head_dim=16, intermediate_size=40, num_hidden_layers=3, num_local_experts=6, num_experts_per_tok=3,
        swiglu_limit=2.0, sliding_window=8, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "glm4_moe": Glm4MoeConfig(
        **SIZES, head_dim=16, intermediate_size=80, moe_intermediate_size=24, num_hidden_layers=3, n_routed_experts=8,
        num_experts_per_tok=3, n_group=4, topk_group=2, n_shared_experts=1, use_qk_norm=True, attention_bias=True,
        routed_scaling_factor=2.5, first_k_dense_replace=1, num_mtp_layers=0,
    ),
}

RUNS = {
    "bf16-sdpa-grouped_mm": (torch.bfloat16, "sdpa", "grouped_mm"),
    "bf16-eager-eager": (torch.bfloat16, "eager", "eager"),
    "bf16-eager-batched_mm": (torch.bfloat16, "eager", "batched_mm"),
    "fp32-sdpa-grouped_mm": (torch.float32, "sdpa", "grouped_mm"),
    "fp32-eager-eager": (torch.float32, "eager", "eager"),
}


def make(family, config, folder):
    """A checkpoint in bfloat16 whose routers have opinions and whose biases, sinks and norms are all different."""
    torch.manual_seed(len(family))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if "inv_freq" in name:
                continue
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif name.endswith(("gate.weight", "router.weight")):
                parameter.copy_(0.15 * torch.randn_like(parameter))
            elif name.endswith("e_score_correction_bias"):
                parameter.copy_(0.2 * torch.randn_like(parameter))
            elif name.endswith("sinks"):
                parameter.copy_(torch.randn_like(parameter))
            elif "bias" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif "embed_tokens" in name:
                parameter.copy_(torch.randn_like(parameter))
            else:
                parameter.copy_(parameter.shape[-1] ** -0.5 * torch.randn_like(parameter))
    biases = {n: b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")}
    model.to(torch.bfloat16)
    # The bias stays float32, as published checkpoints have it.
    for name, bias in biases.items():
        model.get_submodule(name.rpartition(".")[0]).e_score_correction_bias = bias
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def prompt(config, sequences):
    generator = torch.Generator().manual_seed(11)
    return torch.randint(1, config.vocab_size, (2, 11), generator=generator)[:sequences]


def run(folder, config, dtype, attention, experts, sequences):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, experts_implementation=experts, local_files_only=True
    )
    return record(model.eval(), prompt(config, sequences))


@contextmanager
def replaced(owner, name, change):
    """Within it, owner.name is change(the original)."""
    original = getattr(owner, name)
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def layer_of(module):
    """The layer a router or an experts module belongs to, counted over its siblings by the order of their first call."""
    calls = layer_of.calls
    if module not in calls:
        calls[module] = len(calls)
    return calls[module]


layer_of.calls = {}


def in_second(change):
    """A fault in the second mixture of experts of the model alone: change(original, module, *arguments)."""

    def wrap(original):
        def forward(self, *arguments, **keywords):
            if layer_of(self) != 1:
                return original(self, *arguments, **keywords)
            return change(original, self, *arguments, **keywords)

        return forward

    return wrap


def not_renormalised(original, self, hidden):
    logits = functional.linear(hidden, self.weight)
    scores, indices = torch.topk(functional.softmax(logits, dtype=torch.float, dim=-1), self.top_k, dim=-1)
    return logits, scores.to(logits.dtype), indices


def softmax_before_top_k(original, self, hidden):
    logits = functional.linear(hidden, self.weight, self.bias)
    scores, indices = torch.topk(functional.softmax(logits, dim=-1, dtype=torch.float), self.top_k, dim=-1)
    return logits, scores.to(logits.dtype), indices


def next_expert(original, self, hidden, indices, weights):
    return original(self, hidden, (indices + 1) % self.num_experts, weights)


def expert_of_another_rank(original, self, hidden, indices, weights):
    return original(self, hidden, (indices + self.num_experts // 2) % self.num_experts, weights)


def capacity(original, self, hidden, indices, weights):
    """The Switch Transformer's rule: an expert takes so many tokens, in their order, and drops the rest."""
    most = 5
    taken = torch.zeros(self.num_experts, dtype=torch.long)
    weights = weights.clone()
    for token in range(indices.shape[0]):
        for slot in range(indices.shape[1]):
            expert = indices[token, slot]
            taken[expert] += 1
            if taken[expert] > most:
                weights[token, slot] = 0
    return original(self, hidden, indices, weights)


def weights_of_the_next_token(original, self, hidden, indices, weights):
    return original(self, hidden, indices, weights.roll(-1, 0))


def gate_and_up_exchanged(original, self, gate_up):
    gate, up = gate_up.chunk(2, dim=-1)
    return self.act_fn(up) * gate


def halves_for_pairs(original, self, gate_up):
    half = gate_up.shape[-1] // 2
    return original(self, torch.stack((gate_up[..., :half], gate_up[..., half:]), dim=-1).flatten(-2))


def without_clamp(original, self, gate_up):
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return (up + 1) * (gate * torch.sigmoid(gate * self.alpha))


def with_bias(times):
    def change(original, self, hidden):
        kept = self.e_score_correction_bias
        self.e_score_correction_bias = times * kept
        try:
            return original(self, hidden)
        finally:
            self.e_score_correction_bias = kept

    return change


def biased_weights(original, self, hidden):
    logits, _, indices = original(self, hidden)
    scores = (logits.sigmoid() + self.e_score_correction_bias).gather(1, indices)
    return logits, scores / (scores.sum(dim=-1, keepdim=True) + 1e-20) * self.routed_scaling_factor, indices


def router_in_bfloat16(original, self, hidden):
    """The product in the model's type, as a plain nn.Linear computes it."""
    kept = functional.linear
    with replaced(functional, "linear", lambda _: lambda x, w: kept(x.bfloat16(), w.bfloat16()).float()):
        return original(self, hidden)


def without_scale(original, self, hidden):
    logits, scores, indices = original(self, hidden)
    return logits, scores / self.routed_scaling_factor, indices


def without_shared_expert(original, self, hidden):
    _, weights, indices = self.gate(hidden)
    self.shared_experts(hidden)
    return self.experts(hidden.view(-1, hidden.shape[-1]), indices, weights).view(hidden.shape)


def renormalised(original, self, hidden):
    logits, scores, indices = original(self, hidden)
    scores = scores.float()
    return logits, (scores / scores.sum(dim=-1, keepdim=True)).to(logits.dtype), indices


def without_shared_gate(original, self, hidden):
    flat = hidden.view(-1, hidden.shape[-1])
    _, weights, indices = self.gate(flat)
    self.shared_expert_gate(flat)
    return (self.experts(flat, indices, weights) + self.shared_expert(flat)).view(hidden.shape)


def averaged_experts(original, self, hidden, indices, weights):
    return original(self, hidden, indices, torch.full_like(weights, 1 / weights.shape[-1]))


def without_routed_experts(original, self, hidden):
    _, weights, indices = self.gate(hidden)
    self.experts(hidden.view(-1, hidden.shape[-1]), indices, weights)
    return self.shared_experts(hidden)


def shared_expert_on_both_ranks(original, self, hidden):
    return original(self, hidden) + self.shared_experts(hidden)


def without_sinks(_original):
    return qwen3_moe.eager_attention_forward


FAULTS = {
    ("qwen3_moe", "not-renormalised"): (qwen3_moe.Qwen3MoeTopKRouter, "forward", in_second(not_renormalised)),
    ("qwen3_moe", "next-expert"): (qwen3_moe.Qwen3MoeExperts, "forward", in_second(next_expert)),
    ("qwen3_moe", "capacity"): (qwen3_moe.Qwen3MoeExperts, "forward", in_second(capacity)),
    ("qwen3_moe", "weights-of-next-token"): (qwen3_moe.Qwen3MoeExperts, "forward", in_second(weights_of_the_next_token)),
    ("qwen2_moe", "renormalised"): (qwen2_moe.Qwen2MoeTopKRouter, "forward", in_second(renormalised)),
    ("qwen2_moe", "without-shared-gate"): (qwen2_moe.Qwen2MoeSparseMoeBlock, "forward", in_second(without_shared_gate)),
    ("mixtral", "gate-and-up-exchanged"): (mixtral.MixtralExperts, "_apply_gate", in_second(gate_and_up_exchanged)),
    ("mixtral", "expert-of-another-rank"): (mixtral.MixtralExperts, "forward", in_second(expert_of_another_rank)),
    ("gpt_oss", "softmax-before-top-k"): (gpt_oss.GptOssTopKRouter, "forward", in_second(softmax_before_top_k)),
    ("gpt_oss", "halves-for-pairs"): (gpt_oss.GptOssExperts, "_apply_gate", in_second(halves_for_pairs)),
    ("gpt_oss", "without-clamp"): (gpt_oss.GptOssExperts, "_apply_gate", in_second(without_clamp)),
    ("gpt_oss", "without-sinks"): (gpt_oss, "eager_attention_forward", without_sinks),
    ("glm4_moe", "bias-ignored"): (glm4_moe.Glm4MoeTopkRouter, "forward", in_second(with_bias(0))),
    ("glm4_moe", "bias-doubled"): (glm4_moe.Glm4MoeTopkRouter, "forward", in_second(with_bias(2))),
    ("glm4_moe", "biased-weights"): (glm4_moe.Glm4MoeTopkRouter, "forward", in_second(biased_weights)),
    ("glm4_moe", "router-in-bfloat16"): (glm4_moe.Glm4MoeTopkRouter, "forward", in_second(router_in_bfloat16)),
    ("glm4_moe", "without-scale"): (glm4_moe.Glm4MoeTopkRouter, "forward", in_second(without_scale)),
    ("glm4_moe", "averaged"): (glm4_moe.Glm4MoeExperts, "forward", in_second(averaged_experts)),
    ("glm4_moe", "without-routed-experts"): (glm4_moe.Glm4MoeMoE, "forward", in_second(without_routed_experts)),
    ("glm4_moe", "shared-expert-twice"): (glm4_moe.Glm4MoeMoE, "forward", in_second(shared_expert_on_both_ranks)),
    ("glm4_moe", "without-shared-expert"): (glm4_moe.Glm4MoeMoE, "forward", in_second(without_shared_expert)),
}

# What shows where the tokens of all sequences stand in a row.
ACROSS_SEQUENCES = ("capacity", "weights-of-next-token")

# Mistakes in every layer that any family can have.
COMMON = {
    **{name: patch for name, patch in family_faults.COMMON.items() if name != "gate-up"},
    "mlp-reads-stream": family_faults.own_code(mlp_input="stream"),
    "no-rope": family_faults.without_rope,
    "theta": family_faults.theta(300.0),
    "unscaled-scores": family_faults.attention_setting("scaling", 1.0),
}
# gpt-oss turns pairs by code of its own, and its mixture returns two values.
NOT_OF_GPT_OSS = ("interleaved", "no-attention-residual", "no-mlp-residual", "mlp-reads-stream")


def record_common(folder, family, config):
    for name, patch in COMMON.items():
        if family == "gpt_oss" and name in NOT_OF_GPT_OSS:
            continue
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.bfloat16, attn_implementation="eager", experts_implementation="grouped_mm"
        )
        code = sys.modules[type(model).__module__]
        functions = dict(vars(code))
        patch(model.eval())
        save_file(record(model, prompt(config, 1)), folder / f"common-{name}.safetensors")
        vars(code).update(functions)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parent.parent / "test/golden/moe")
    parser.add_argument("--common", action="store_true")
    options = parser.parse_args()
    out = options.out
    for family, config in CONFIGS.items():
        folder = out / family
        folder.mkdir(parents=True, exist_ok=True)
        make(family, config, folder)
        for name, (dtype, attention, experts) in RUNS.items():
            if experts == "batched_mm" and family not in ("qwen3_moe", "gpt_oss"):
                continue
            if family == "gpt_oss" and attention == "sdpa":
                attention, name = "eager", name.replace("sdpa", "eager")
            sequences = 2 if dtype == torch.bfloat16 and experts == "grouped_mm" else 1
            save_file(run(folder, config, dtype, attention, experts, sequences), folder / f"{name}.safetensors")
        for (of, name), change in FAULTS.items():
            if of != family:
                continue
            layer_of.calls.clear()
            with replaced(*change):
                # The fault lies in the second mixture; the layers around it show that they are right.
                tensors = run(folder, config, torch.bfloat16, "eager", "grouped_mm", 2 if name in ACROSS_SEQUENCES else 1)
                save_file(tensors, folder / f"fault-{name}.safetensors")
        if options.common:
            record_common(folder, family, config)
        print(family, json.dumps({path.name: path.stat().st_size for path in sorted(folder.iterdir())}))


if __name__ == "__main__":
    main()
