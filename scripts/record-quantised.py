"""Makes test/golden/quantised: tiny Qwen3 checkpoints in weight formats, and runs of them under Hugging Face's code on a CPU.

    pip install torch transformers accelerate compressed-tensors safetensors
    python scripts/record-quantised.py test/golden/quantised

Each folder is a model (config.json, model.safetensors) beside `run.safetensors`, a recording of all its modules.
"""

import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, CompressedTensorsConfig, FineGrainedFP8Config, Qwen3Config, Qwen3ForCausalLM
from transformers.integrations.finegrained_fp8 import Fp8Quantize

sys.path.insert(0, str(Path(__file__).parent))
from record_plain import record  # noqa: E402

target = Path(sys.argv[1])
config = Qwen3Config(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=96,
    max_position_embeddings=128,
    tie_word_embeddings=True,
    dtype="bfloat16",
)


def plain_state():
    torch.manual_seed(5)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    state = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        if parameter.ndim == 1:
            state[name] = torch.exp(0.4 * torch.randn(parameter.shape)).to(torch.bfloat16)
        else:
            state[name] = (torch.randn(parameter.shape) * (0.06 if "embed" in name else 1 / parameter.shape[1] ** 0.5)).to(torch.bfloat16)
    return state


def is_projection(name):
    return "_proj.weight" in name


def fp8_blocks(name, weight):
    holder = type("Holder", (), {"quantization_config": FineGrainedFP8Config(weight_block_size=(32, 32))})()
    return Fp8Quantize(holder).convert({name: weight})


def compressed(scheme, format):
    def keep(name, weight):
        args = scheme.weights
        if args.strategy == "channel":
            low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        else:
            grouped = weight.unflatten(-1, (-1, args.group_size))
            low, high = grouped.amin(-1), grouped.amax(-1)
        state = {"weight": weight}
        global_scale = None
        if args.strategy == "tensor_group":
            global_scale = (448.0 * 6.0 / weight.abs().max().float()).reshape(1)
            state["weight_global_scale"] = global_scale
        scale, zero = calculate_qparams(low, high, args, global_scale=global_scale)
        state |= {"weight_scale": scale, "weight_zero_point": zero}
        packed = BaseCompressor.get_value_from_registry(format).compress(state, scheme)
        module = name.removesuffix(".weight")
        return {f"{module}.{part}": tensor for part, tensor in packed.items()}

    return keep


def spoilt(state, module, change):
    """The same checkpoint with the bytes of one module changed: how code sees it that takes them for something else."""
    out = dict(state)
    for part, value in change({key.removeprefix(f"{module}."): value for key, value in state.items() if key.startswith(f"{module}.")}).items():
        out[f"{module}.{part}"] = value
    return out


def make(name, quantization, keep, faults=(), **load):
    """`faults`: (name of the recording, module, what is done to its tensors before Hugging Face loads them)."""
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for parameter, value in plain_state().items():
        state |= keep(parameter, value) if is_projection(parameter) else {parameter: value}
    json_config = json.loads(config.to_json_string()) | {"architectures": ["Qwen3ForCausalLM"], "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(json_config, indent=1) + "\n")
    for recording, module, change in [*faults, ("run", None, None)]:
        held = spoilt(state, module, change) if module else state
        save_file({k: v.contiguous() for k, v in held.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.bfloat16, **load).eval()
        ids = torch.randint(0, config.vocab_size, (1, 14), generator=torch.Generator().manual_seed(9))
        with torch.no_grad():
            tensors = record(model, ids)
        save_file(tensors, folder / f"{recording}.safetensors")


def scheme_of(weights, inputs=None):
    return QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs)


def make_compressed(name, format, weights, inputs=None, faults=()):
    scheme = scheme_of(weights, inputs)
    groups = {"group_0": json.loads(scheme.model_dump_json()) | {"format": format}}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": groups,
    }
    # Weights alone: dequantised on loading. With activations, they are quantised in the model's own type as it runs.
    load = {} if inputs else {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    make(name, quantization, compressed(scheme, format), faults, **load)


make(
    "fp8-blocks",
    {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [32, 32],
        "modules_to_not_convert": ["lm_head"],
    },
    fp8_blocks,
    [("scale_inverted", "model.layers.0.mlp.up_proj", lambda parts: {"weight_scale_inv": 1 / parts["weight_scale_inv"]})],
    quantization_config=FineGrainedFP8Config(dequantize=True, weight_block_size=(32, 32)),
)


def exchanged(words):
    """Both halves of every byte."""
    values = words.view(torch.uint8)
    return ((values << 4) | (values >> 4)).view(torch.int32)


def shifted(scales):
    """Every scale is its neighbour's."""
    flat = scales.flatten()
    return torch.cat([flat[1:], flat[-1:]]).reshape(scales.shape)


token = {"strategy": "token", "dynamic": True, "symmetric": True}
make_compressed(
    "packed-int4",
    "pack-quantized",
    {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False},
    faults=[
        ("halves_exchanged", "model.layers.0.mlp.down_proj", lambda parts: {"weight_packed": exchanged(parts["weight_packed"])}),
        ("scales_shifted", "model.layers.0.self_attn.o_proj", lambda parts: {"weight_scale": shifted(parts["weight_scale"])}),
    ],
)
make_compressed("fp8-rows", "float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, {"num_bits": 8, "type": "float", **token})
make_compressed("int8", "int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, {"num_bits": 8, "type": "int", **token})
fp8 = torch.float8_e4m3fn
make_compressed(
    "nvfp4",
    "nvfp4-pack-quantized",
    {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": fp8, "zp_dtype": fp8},
    faults=[("global_scale_missed", "model.layers.0.self_attn.v_proj", lambda parts: {"weight_global_scale": torch.ones(1)})],
)
make_compressed(
    "mxfp4",
    "mxfp4-pack-quantized",
    {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8, "zp_dtype": torch.uint8},
)
