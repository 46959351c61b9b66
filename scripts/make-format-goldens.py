"""Makes test/golden/formats: a small checkpoint per weight format, and what the format's public reference makes of it.

    pip install torch transformers compressed-tensors safetensors
    python scripts/make-format-goldens.py test/golden/formats

Each folder is a checkpoint (config.json, model.safetensors); expected.safetensors has the dequantised parameters as the
library named below returns them, in the type in which it returns them.
"""

import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.entrypoints.convert.converters.fp8block_dequantizer import FP8BlockDequantizer
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize
from transformers.integrations.compressed_tensors import quantize_fp8_per_row
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

target = Path(sys.argv[1])
generator = torch.Generator().manual_seed(8)


def random(*shape, dtype=torch.bfloat16):
    values = torch.randn(*shape, generator=generator)
    # A few far larger than the rest, as weights have them.
    outliers = torch.rand(*shape, generator=generator) < 0.02
    return (0.05 * torch.where(outliers, values * 8, values)).to(dtype)


def write(name, config, tensors, expected):
    folder = target / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}, indent=1) + "\n")
    plain = {"norm.weight": random(8)}
    save_file({k: v.contiguous() for k, v in {**tensors, **plain}.items()}, folder / "model.safetensors")
    save_file({k: v.contiguous() for k, v in {**expected, **plain}.items()}, folder / "expected.safetensors")


class Holder:
    def __init__(self, **config):
        self.quantization_config = type("Config", (), {"scale_fmt": None, **config})()


def fp8_blocks():
    block = [16, 32]
    holder = Holder(weight_block_size=block)
    stored = Fp8Quantize(holder).convert({"a.weight": random(48, 96)})
    expected = {"a.weight": Fp8Dequantize(holder)._dequantize_one(stored["a.weight"], stored["a.weight_scale_inv"], torch.float32)}
    expected["a.weight in bfloat16"] = Fp8Dequantize(holder)._dequantize_one(
        stored["a.weight"], stored["a.weight_scale_inv"], torch.bfloat16
    )
    # Edges that fill no block.
    ragged = random(40, 80, dtype=torch.float32).clamp(-0.5, 0.5)
    scale = torch.rand(3, 3, generator=generator) / 400 + 1e-4
    codes = (ragged / 0.002).to(torch.float8_e4m3fn)
    stored |= {"b.weight": codes, "b.weight_scale_inv": scale}
    converter = FP8BlockDequantizer(weight_block_size=block, dtype=torch.float32)
    expected["b.weight"] = converter._create_dequantized_weight(codes, scale)
    config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": block}
    write("fp8-blocks", config, stored, expected)


def fp8_rows():
    stored, expected = {}, {}
    codes, scales = quantize_fp8_per_row(random(20, 48))
    stored |= {"a.weight": codes, "a.weight_scale": scales.view(-1, 1)}
    expected["a.weight"] = codes.to(torch.float32) * scales.view(-1, 1)
    write("fp8-rows", {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, stored, expected)


def scheme_of(weights, inputs=None, format=None):
    return QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs, format=format)


def compressed(name, format, modules, inputs=None):
    """Modules: name -> (weights' arguments, weight)."""
    stored, expected, groups = {}, {}, {}
    for index, (module, (arguments, weight)) in enumerate(modules.items()):
        scheme = scheme_of({"symmetric": True, **arguments}, inputs)
        args = scheme.weights
        size = args.group_size
        if args.strategy == "tensor":
            low, high = weight.min().reshape(1), weight.max().reshape(1)
        elif args.strategy == "channel":
            low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        else:
            grouped = weight.unflatten(-1, (-1, size))
            low, high = grouped.amin(-1), grouped.amax(-1)
        state = {"weight": weight}
        global_scale = None
        if args.strategy == "tensor_group":
            global_scale = (448.0 * 6.0 / weight.abs().max().float()).reshape(1)
            state["weight_global_scale"] = global_scale
        scale, zero = calculate_qparams(low, high, args, global_scale=global_scale)
        state |= {"weight_scale": scale, "weight_zero_point": zero}
        compressor = BaseCompressor.get_value_from_registry(format)
        packed = compressor.compress(state, scheme)
        expected[f"{module}.weight"] = compressor.decompress(packed, scheme)["weight"]
        stored |= {f"{module}.{part}": tensor for part, tensor in packed.items()}
        groups[f"group_{index}"] = json.loads(scheme.model_dump_json())
    config = {"quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"], "config_groups": groups}
    write(name, config, stored, expected)


def awq():
    """Codes packed by AutoAWQ's GEMM layout, unpacked by compressed-tensors' converter of such checkpoints."""
    inputs, outputs, size = 64, 24, 32
    stored, expected = {}, {}
    codes = torch.randint(0, 16, (inputs, outputs), generator=generator)
    zeros = torch.randint(0, 16, (inputs // size, outputs), generator=generator)
    scales = (torch.rand(inputs // size, outputs, generator=generator) / 40 + 1e-3).half()
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def packed(values):
        words = torch.zeros(values.shape[0], values.shape[1] // 8, dtype=torch.int64)
        for field, output in enumerate(order):
            words |= values[:, output::8].long() << (4 * field)
        return words.to(torch.int32) if words.max() < 2**31 else torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)

    stored |= {"a.qweight": packed(codes), "a.qzeros": packed(zeros), "a.scales": scales}
    converter = AutoAWQConverter(bits=4, group_size=size, zero_point=True, version="gemm", ignore=[], targets=["Linear"])
    converted = converter.process(dict(stored))
    scheme = QuantizationScheme(
        targets=["Linear"], weights={"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": size}
    )
    local = {name.removeprefix("a."): tensor for name, tensor in converted.items()}
    expected["a.weight"] = BaseCompressor.get_value_from_registry("pack-quantized").decompress(local, scheme)["weight"]
    config = {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True, "version": "gemm"}
    write("awq", config, stored, expected)


def gptq(name, bits, version, desc_act):
    """Packed and dequantised after AutoGPTQ's qlinear_cuda."""
    inputs, outputs, size = 64, 24, 16
    each, mask = 32 // bits, 2**bits - 1
    codes = torch.randint(0, mask + 1, (inputs, outputs), generator=generator)
    zeros = torch.randint(1, mask + 1, (inputs // size, outputs), generator=generator)
    scales = (torch.rand(inputs // size, outputs, generator=generator) / 40 + 1e-3).half()
    groups = torch.arange(inputs) // size
    if desc_act:
        groups = groups[torch.randperm(inputs, generator=generator)]

    def words(values):
        total = torch.zeros(values.shape[0], values.shape[1] // each, dtype=torch.int64)
        for field in range(each):
            total |= values[:, field::each].long() << (bits * field)
        return torch.where(total >= 2**31, total - 2**32, total).to(torch.int32)

    kept = zeros - 1 if version == "gptq" else zeros
    stored = {
        "a.qweight": words(codes.T).T,
        "a.qzeros": words(kept),
        "a.scales": scales,
        "a.g_idx": groups.to(torch.int32),
    }
    weight = scales[groups] * (codes - zeros[groups]).to(torch.float16)
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": desc_act, "sym": False, "checkpoint_format": version}
    write(name, config, stored, {"a.weight": weight.T})


def mxfp4_experts():
    blocks = torch.randint(0, 256, (3, 10, 2, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(110, 130, (3, 10, 2), generator=generator, dtype=torch.uint8)
    stored = {"mlp.experts.gate_up_proj_blocks": blocks, "mlp.experts.gate_up_proj_scales": scales}
    expected = {"mlp.experts.gate_up_proj": convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)}
    write("mxfp4-experts", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, stored, expected)


def modelopt_nvfp4():
    """After NVIDIA's NVFP4QTensor.dequantize: numbers times (scale times scale_2), in float32, kept in bfloat16."""
    codes = torch.randint(0, 256, (12, 32), generator=generator, dtype=torch.uint8)
    scale = (torch.rand(12, 4, generator=generator) * 400 + 1).to(torch.float8_e4m3fn)
    second = torch.tensor(0.00037, dtype=torch.float32)
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    numbers = torch.stack([table[(codes & 15).long()], table[(codes >> 4).long()]], -1).flatten(1)
    weight = numbers.unflatten(-1, (-1, 16)) * (scale.float() * second).unsqueeze(-1)
    stored = {"a.weight": codes, "a.weight_scale": scale, "a.weight_scale_2": second}
    config = {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}
    write("modelopt-nvfp4", config, stored, {"a.weight": weight.flatten(1).to(torch.bfloat16)})


fp8_blocks()
fp8_rows()
integer = {"type": "int"}
floating = {"type": "float"}
compressed(
    "compressed-fp8",
    "float-quantized",
    {
        "a": ({**floating, "num_bits": 8, "strategy": "tensor"}, random(20, 48)),
        "b": ({**floating, "num_bits": 8, "strategy": "channel"}, random(20, 48)),
        "c": ({**floating, "num_bits": 8, "strategy": "channel"}, random(20, 48, dtype=torch.float32)),
    },
    {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
)
compressed(
    "packed-integers",
    "pack-quantized",
    {
        "a": ({**integer, "num_bits": 4, "strategy": "group", "group_size": 32}, random(20, 96)),
        "b": ({**integer, "num_bits": 4, "strategy": "group", "group_size": 32, "symmetric": False}, random(20, 96)),
        "c": ({**integer, "num_bits": 4, "strategy": "channel", "symmetric": False}, random(20, 92)),
        "d": ({**integer, "num_bits": 8, "strategy": "group", "group_size": 16, "symmetric": False}, random(20, 48, dtype=torch.float16)),
    },
)
compressed(
    "int8",
    "int-quantized",
    {
        "a": ({**integer, "num_bits": 8, "strategy": "channel"}, random(20, 48)),
        "b": ({**integer, "num_bits": 8, "strategy": "tensor", "symmetric": False}, random(20, 48)),
        "c": ({**integer, "num_bits": 8, "strategy": "channel", "symmetric": False}, random(20, 48, dtype=torch.float32)),
    },
    {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
)
awq()
gptq("gptq", 4, "gptq", False)
gptq("gptq-order", 4, "gptq", True)
gptq("gptq-v2", 8, "gptq_v2", False)
mxfp4_experts()
mx = {"type": "float", "num_bits": 4, "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8, "zp_dtype": torch.uint8}
compressed("mxfp4", "mxfp4-pack-quantized", {"a": (mx, random(20, 96))})
nv = {"type": "float", "num_bits": 4, "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn, "zp_dtype": torch.float8_e4m3fn}
compressed("nvfp4", "nvfp4-pack-quantized", {"a": (nv, random(20, 96)), "b": (nv, random(8, 32))})
modelopt_nvfp4()
