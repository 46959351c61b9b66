"""Makes test/golden/quantised-ranks: tiny checkpoints in weight formats, and tensor-parallel runs of them over gloo on a CPU.

    python scripts/record_quantised_ranks.py test/golden/quantised-ranks [NAME...]

Each folder NAME is a model (config.json, model.safetensors) with runs beside it: `2-ranks`, `4-ranks` and one for each fault.
The products are written out as serving engines have them: a rank cuts codes and scales to its own part, quantises the
operand it holds (so that scales per token are its own), adds up in float32, stores its term; rank 0 adds the bias of a
row-parallel product. Needs torch, transformers 5 and safetensors.
"""

import argparse
import json
import os
import pathlib
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from record_tensor_parallel import Recorder, Sharding, observe  # noqa: E402
from weight_packing import awq_words, fp4, nibbles, words  # noqa: E402

E4M3 = torch.float8_e4m3fn
GROUP = 16


def in_e4m3(values):
    return values.clamp(-448, 448).to(E4M3)


def tiled(values, height, width):
    """A value per tile of `height` × `width` elements, for each of them."""
    return values.repeat_interleave(height, 0).repeat_interleave(width, 1)


def largest(weight, height, width):
    rows, columns = weight.shape
    return weight.abs().unflatten(1, (columns // width, width)).unflatten(0, (rows // height, height)).amax((1, 3))


class Kept:
    """A weight in narrow numbers: number, zero point and scale of every element [outputs, inputs], in float32."""

    def __init__(self, tensors, numbers, scales, zeros=None):
        self.tensors = tensors
        self.parts = {"numbers": numbers, "scales": scales, "zeros": torch.zeros_like(numbers) if zeros is None else zeros}

    def of_rank(self, axis, part, of, scales_of):
        """What one rank holds: its part along an axis, its scales those of part `scales_of`."""
        return {name: value.chunk(of, axis)[scales_of if name == "scales" else part] for name, value in self.parts.items()}


def fp8_scaled(height, width, name, dtype, **more):
    def keep(weight):
        h, w = height or weight.shape[0], width or weight.shape[1]
        scale = (largest(weight.float(), h, w) / 448).to(dtype)
        codes = in_e4m3(weight.float() / tiled(scale.float(), h, w))
        stored = scale.reshape(1) if height is None and width is None else scale
        return Kept({"weight": codes, name: stored, **more}, codes.float(), tiled(scale.float(), h, w))

    return keep


def int8_rows(weight):
    scale = (largest(weight.float(), 1, weight.shape[1]) / 127).to(torch.bfloat16)
    numbers = (weight.float() / scale.float()).round().clamp(-128, 127)
    tensors = {"weight": numbers.to(torch.int8), "weight_scale": scale}
    return Kept(tensors, numbers, scale.float().expand_as(numbers))


def levels(weight, dtype):
    """Codes, zero points and scales of 4 bits in groups."""
    grouped = weight.float().unflatten(1, (-1, GROUP))
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    scale = ((high - low) / 15).to(dtype)
    zero = (-low / scale.float()).round().clamp(1, 15)
    wide_scale, wide_zero = (values.repeat_interleave(GROUP, 1) for values in (scale.float(), zero))
    codes = (weight.float() / wide_scale + wide_zero).round().clamp(0, 15)
    return codes, zero, scale, wide_scale, wide_zero


def packed_int4(weight):
    codes, zero, scale, wide_scale, wide_zero = levels(weight, torch.bfloat16)
    tensors = {
        "weight_packed": words(codes, 4, 1),
        "weight_scale": scale,
        "weight_zero_point": words(zero, 4, 0),
        "weight_shape": torch.tensor(weight.shape, dtype=torch.int64),
    }
    return Kept(tensors, codes, wide_scale, wide_zero)


def awq(weight):
    codes, zero, scale, wide_scale, wide_zero = levels(weight, torch.float16)
    tensors = {"qweight": awq_words(codes.T), "qzeros": awq_words(zero.T), "scales": scale.T}
    return Kept(tensors, codes, wide_scale, wide_zero)


def gptq(weight):
    """With the inputs in an order of their own: a rank keeps all groups, and every input its own."""
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))
    codes, zero, scale, wide_scale, wide_zero = levels(weight[:, order], torch.float16)
    back = order.argsort()
    tensors = {
        "qweight": words(codes[:, back].T, 4, 0),
        "qzeros": words((zero - 1).T, 4, 1),
        "scales": scale.T,
        "g_idx": (back // GROUP).to(torch.int32),
    }
    return Kept(tensors, codes[:, back], wide_scale[:, back], wide_zero[:, back])


def mxfp4(weight):
    exponent = largest(weight.float(), 1, 32).log2().floor() - 2
    scale = tiled(2.0**exponent, 1, 32)
    numbers, codes = fp4(weight.float() / scale)
    return Kept({"weight_packed": nibbles(codes), "weight_scale": (exponent + 127).to(torch.uint8)}, numbers, scale)


def nvfp4(weight):
    divisor = (448 * 6 / weight.abs().max().float()).reshape(1)
    scale = in_e4m3(largest(weight.float(), 1, GROUP) / 6 * divisor)
    wide = tiled(scale.float() / divisor, 1, GROUP)
    numbers, codes = fp4(weight.float() / wide)
    tensors = {"weight_packed": nibbles(codes), "weight_scale": scale, "weight_global_scale": divisor}
    # Of calibration: the largest activation, as a divisor too.
    return Kept(tensors | {"input_global_scale": torch.tensor([448 * 6 / 11.0])}, numbers, wide)


def per_group(width):
    """Operands in e4m3, a scale per token and `width` channels, or per token; in float32, as fused kernels have it."""

    def quantise(x):
        grouped = x.float().unflatten(-1, (-1, width or x.shape[-1]))
        scale = grouped.abs().amax(-1, keepdim=True) / 448
        return in_e4m3(grouped / scale).float().flatten(-2), scale.expand_as(grouped).flatten(-2)

    return quantise


def fixed(scale):
    return lambda x: (in_e4m3(x.float() / scale).float(), torch.full(x.shape, scale))


def int8_token(x):
    scale = x.float().abs().amax(-1, keepdim=True) / 127
    return (x.float() / scale).round(), scale.expand(x.shape)


def mxfp4_operand(x):
    """Exponents after the largest of 32, rounded to the next one from 1.75 on."""
    grouped = x.float().unflatten(-1, (-1, 32))
    mantissa, exponent = torch.frexp(grouped.abs().amax(-1, keepdim=True))
    scale = 2.0 ** (exponent - 1 + (mantissa >= 0.875) - 2)
    return fp4(grouped / scale)[0].flatten(-2), scale.expand_as(grouped).flatten(-2)


def nvfp4_operand(x):
    divisor = torch.tensor(448 * 6 / 11.0)
    grouped = x.float().unflatten(-1, (-1, GROUP))
    scale = in_e4m3(divisor * (grouped.abs().amax(-1, keepdim=True) * (1 / 6))).float()
    numbers = fp4(grouped * (1 / (scale * (1 / divisor))))[0]
    return numbers.flatten(-2), (scale / divisor).expand_as(grouped).flatten(-2)


def scaled_sums(operand, width):
    """A product of narrow numbers, its float32 sums scaled every `width` inputs, and stored once."""

    def product(x, own, bias):
        numbers, scales = operand(x)
        out = torch.zeros(*x.shape[:-1], own["numbers"].shape[0])
        each = width or x.shape[-1]
        for first in range(0, x.shape[-1], each):
            stretch = slice(first, first + each)
            sums = F.linear(numbers[..., stretch], own["numbers"][:, stretch])
            out += sums * scales[..., first : first + 1] * own["scales"][:, first]
        return (out if bias is None else out + bias.float()).to(x.dtype)

    return product


def dequantised(dtype):
    """Scales and weights in the run's type, as kernels for 16-bit operands hold them."""

    def product(x, own, bias):
        return F.linear(x, ((own["numbers"] - own["zeros"]) * own["scales"].to(dtype).float()).to(dtype), bias)

    return product


def compressed(format, weights, inputs=None):
    base = {"symmetric": True, "dynamic": False}
    group = {"targets": ["Linear"], "weights": base | weights, "input_activations": inputs and base | inputs}
    return {"quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"], "config_groups": {"group_0": group}}


floating, whole = {"num_bits": 8, "type": "float"}, {"num_bits": 8, "type": "int"}
token = {"strategy": "token", "dynamic": True}
four = {"num_bits": 4, "type": "float"}
e4m3_scales = {"strategy": "tensor_group", "group_size": GROUP, "scale_dtype": "torch.float8_e4m3fn"}
mx_scales = {"strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}


def blocks(size):
    config = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [size, size]}
    keep = fp8_scaled(size, size, "weight_scale_inv", torch.float32)
    return config, keep, scaled_sums(per_group(size), size)


# name: (quantization_config, how a weight is kept, how a rank multiplies)
FORMATS = {
    "fp8-blocks": blocks(GROUP),
    "fp8-blocks-128": blocks(128),
    "fp8-tensor": (
        compressed("float-quantized", floating | {"strategy": "tensor"}, floating | {"strategy": "tensor"}),
        fp8_scaled(None, None, "weight_scale", torch.float32, input_scale=torch.tensor([0.03125])),
        scaled_sums(fixed(0.03125), None),
    ),
    "fp8-rows": (
        compressed("float-quantized", floating | {"strategy": "channel"}, floating | token),
        fp8_scaled(1, None, "weight_scale", torch.bfloat16),
        scaled_sums(per_group(None), None),
    ),
    "int8": (compressed("int-quantized", whole | {"strategy": "channel"}, whole | token), int8_rows, scaled_sums(int8_token, None)),
    "packed-int4": (
        compressed("pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP, "symmetric": False}),
        packed_int4,
        dequantised(torch.bfloat16),
    ),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, awq, dequantised(torch.float16)),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": True, "sym": False, "checkpoint_format": "gptq"},
        gptq,
        dequantised(torch.float16),
    ),
    "mxfp4": (compressed("mxfp4-pack-quantized", four | mx_scales, four | mx_scales | {"dynamic": True}), mxfp4, scaled_sums(mxfp4_operand, 32)),
    "nvfp4": (
        compressed("nvfp4-pack-quantized", four | e4m3_scales, four | e4m3_scales | {"dynamic": "local"}),
        nvfp4,
        scaled_sums(nvfp4_operand, GROUP),
    ),
}

# fault: (format, ranks)
FAULTS = {
    "rank-missing": ("fp8-rows", 2),  # the last rank's part of the attention output never arrives
    "bias-per-rank": ("fp8-blocks", 2),  # o_proj adds its bias on every rank
    "scales-of-first-rank": ("fp8-blocks", 4),  # every rank multiplies its part of down_proj by the first part's scales
    "row-scales-of-first-rank": ("fp8-rows", 2),  # every rank scales its rows of up_proj by the first part's scales
    "scales-of-other-rank": ("packed-int4", 2),  # the last rank has the scales of rank 0 in o_proj
    "scale-missed": ("int8", 2),  # down_proj without its scales on every rank
    "scale-of-next-group": ("nvfp4", 2),  # down_proj takes the scales of the next group
    "row-shards-reversed": ("awq", 2),  # down_proj's shards are loaded in reverse
    "operand-scale-missed": ("fp8-tensor", 2),  # the scale of the operand is left out of down_proj's sums
}


def config_of(name):
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 96}
    sizes |= {"head_dim": 16, "num_key_value_heads": 2, "tie_word_embeddings": True, "max_position_embeddings": 64}
    if name == "mxfp4":
        sizes |= {"head_dim": 32}
    if name == "fp8-blocks-128":
        sizes |= {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_key_value_heads": 4}
    biased = {"attention_bias": True, "mlp_bias": True}
    return LlamaConfig(**sizes, **biased) if name == "fp8-blocks" else Qwen3Config(**sizes)


def model_of(name):
    """The model as it was before it was quantised, and what is kept of its projections."""
    config = config_of(name)
    torch.manual_seed(11)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter_name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.uniform_(parameter, -0.3, 0.3)
            if parameter_name.endswith("norm.weight"):
                parameter.data += 1
        else:
            torch.nn.init.normal_(parameter, std=0.5 if "embed" in parameter_name else 1.2 / parameter.shape[1] ** 0.5)
    dtype = torch.float16 if name in ("awq", "gptq") else torch.bfloat16
    for parameter in model.parameters():  # not the frequencies of RoPE, which stay in float32
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    model.eval()
    kept = {n: FORMATS[name][1](m.weight.data) for n, m in model.named_modules() if n.endswith("_proj")}
    return model, kept


def write_model(folder, name):
    model, kept = model_of(name)
    state = {n: value for n, value in model.state_dict().items() if n != "lm_head.weight" and n.removesuffix(".weight") not in kept}
    for module, weight in kept.items():
        state |= {f"{module}.{part}": tensor for part, tensor in weight.tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(model.config.to_json_string()) | {"quantization_config": FORMATS[name][0]}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({n: value.contiguous().clone() for n, value in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})


class QuantisedSharding(Sharding):
    """The plan of record_tensor_parallel.py over narrow numbers and their scales."""

    def __init__(self, model, rank, world, fault, kept, product):
        self.kept, self.product = kept, product
        self.names = {module: name for name, module in model.named_modules()}
        super().__init__(model, rank, world, fault)

    def held(self, name, axis, part, of):
        scales_of = part
        at = {"scales-of-first-rank": "down_proj", "row-scales-of-first-rank": "up_proj", "scales-of-other-rank": "o_proj"}
        if self.fault in at and name.endswith(at[self.fault]):
            scales_of = 0
        own = self.kept[name].of_rank(axis, part, of, scales_of)
        if name.endswith("down_proj") and self.fault == "scale-missed":
            own["scales"] = torch.ones_like(own["scales"])
        if name.endswith("down_proj") and self.fault == "scale-of-next-group":
            whole = self.kept[name].parts["scales"]
            shifted = torch.cat([whole.flatten()[GROUP:], whole.flatten()[-GROUP:]]).reshape(whole.shape)
            own["scales"] = shifted.chunk(of, axis)[part]
        return own

    def cut_rows(self, module, part, of):
        own = self.held(self.names[module], 0, part, of)
        bias = None if module.bias is None else module.bias.data.chunk(of, 0)[part]
        module.forward = lambda x: self.product(x, own, bias)

    def cut_columns(self, name, module):
        own = self.held(name, 1, self.rank_of(name.rsplit(".", 1)[-1], "row-shards-reversed", "down_proj"), self.world)
        everywhere = self.fault == "bias-per-rank" and name.endswith("o_proj")
        bias = module.bias if self.rank == 0 or everywhere else None

        def forward(x):
            term = self.product(x, own, bias)
            if self.fault == "operand-scale-missed" and name.endswith("down_proj"):
                term = (term.float() / 0.03125).to(term.dtype)
            self.partial(name, term)
            return self.sum(name, term)

        module.forward = forward

    def sum(self, name, term):
        if self.fault == "rank-missing" and name.endswith("o_proj") and self.rank == self.world - 1:
            term = torch.zeros_like(term)
        out = term.clone()
        dist.all_reduce(out)
        return out


def run(rank, name, fault, world, out, port):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model, kept = model_of(name)
    recorder = Recorder(f"{out}/rank{rank}", rank, world, str(model.dtype)[6:])
    sharding = QuantisedSharding(model, rank, world, fault, kept, FORMATS[name][2])
    sharding.partial = lambda value, tensor: recorder.value(value, tensor, partial={"part": rank, "of": world})
    observe(model, recorder, rank, world, sharding.key_part(), lambda _: True)
    ids = torch.tensor([[(29 * i + 7) % model.config.vocab_size for i in range(8)]])
    recorder.step(ids, torch.arange(8).expand(ids.shape))
    with torch.no_grad():
        model(ids, use_cache=False)
    recorder.finish()
    dist.barrier()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="formats or faults; all unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the ranks are forked
    wanted = set(options.names or [*FORMATS, *FAULTS])
    runs = [(f"{ranks}-ranks", name, None, ranks) for name in FORMATS for ranks in (2, 4) if name in wanted]
    runs += [(fault, name, fault, ranks) for fault, (name, ranks) in FAULTS.items() if fault in wanted]
    for port, (folder, name, fault, ranks) in enumerate(runs, 29700):
        if name == "fp8-blocks-128" and ranks > 2:
            continue  # a rank's part would be less than a block
        write_model(options.out / name, name)
        arguments = (name, fault, ranks, str(options.out / name / folder), port)
        torch.multiprocessing.start_processes(run, arguments, ranks, start_method="fork")
        print(f"{name}/{folder}")


if __name__ == "__main__":
    main()
