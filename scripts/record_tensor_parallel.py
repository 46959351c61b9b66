"""Record a tensor-parallel run over gloo on the CPU, each rank into its own directory (capture format 2).

    python record_tensor_parallel.py MODEL_DIR OUT --ranks 2 [--shards auto|own] [--dtype bfloat16] [--fault NAME]
        [--ids 17,4,905 8,15,2] [--decode 1]
    python record_tensor_parallel.py MODEL_DIR --random qwen3|llama|llama-bias

OUT gets rank0, rank1, …: `faultline diagnose OUT/rank* --model MODEL_DIR`. `--shards auto` is transformers' own tp_plan
(it needs accelerate), `--shards own` the plan written out below, with the vocabulary cut too and key/value heads kept by
several ranks where there are fewer heads than ranks. `--fault` breaks the own plan as people break theirs.
Needs torch, transformers 5 and safetensors.
"""

import argparse
import json
import os
import pathlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen3Config
from transformers.modeling_utils import AttentionInterface

FAULTS = (
    "rank-missing",  # the last rank's part of layer 1's attention output never arrives
    "sum-skipped",  # layer 1's MLP output is not summed over the ranks
    "residual-per-rank",  # layer 1 adds the residual before the sum instead of after it
    "bias-per-rank",  # o_proj adds its bias on every rank
    "column-shards-reversed",  # q_proj's shards are loaded in reverse
    "row-shards-reversed",  # down_proj's shards are loaded in reverse
    "gather-reversed",  # the logits' shards are put together in reverse
    "key-heads-modulo",  # rank r keeps key/value head r % heads instead of r * heads // ranks
    "embedding-shifted",  # a rank's shard of the embedding begins a row late
    "logits-shifted",  # a rank's shard of lm_head begins a row late
    "replica-differs",  # the last rank has another weight in layer 1's first norm
)

COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "act_fn")
HEADS = ("q_norm", "k_norm")
SUMS = ("o_proj", "down_proj")


class Recorder:
    """Writes one rank's recording: a step's tensors first, then the events that name them."""

    def __init__(self, directory, rank, world, dtype):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        manifest = {
            "format": "faultline-capture",
            "version": 2,
            "world": world,
            "rank": rank,
            "runtime": {"name": "transformers over gloo", "version": torch.__version__, "device": "cpu", "dtype": dtype},
            "dims": {"*.q_rope": "b h t d", "*.k_rope": "b h t d"},
        }
        (self.directory / "manifest.json").write_text(json.dumps(manifest))
        self.events, self.tensors, self.step_number = [], {}, -1

    def step(self, ids, positions):
        """Begins a step over ids [batch, token], each row a sequence."""
        batch, tokens = ids.shape
        self.step_number += 1
        step = {"event": "step", "step": self.step_number, "seq_ids": list(range(batch)), "token_ids": ids.flatten().tolist()}
        indptr = [row * tokens for row in range(batch + 1)]
        self.events.append(step | {"qo_indptr": indptr, "positions": positions.flatten().tolist()})

    def value(self, name, tensor, **part):
        """Records a tensor as it is addressed; part: shard={axis, part, of} or partial={part, of}, none for a whole value."""
        reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
        storage = f"s{len(self.tensors)}"
        # Copied at once: a later in-place write must not reach the record.
        self.tensors[f"{storage}@0"] = tensor.detach().as_strided((reach,), (1,), tensor.storage_offset()).clone()
        view = {"storage": storage, "epoch": 0, "dtype": str(tensor.dtype)[6:], "shape": list(tensor.shape)}
        view |= {"strides": list(tensor.stride()), "offset": 0}
        self.events.append({"event": "value", "step": self.step_number, "name": name, "role": "output", "view": view} | part)

    def finish(self):
        save_file(self.tensors, self.directory / f"step-{self.step_number:05}.safetensors")
        with open(self.directory / "events.jsonl", "a") as lines:
            lines.writelines(json.dumps(event) + "\n" for event in self.events)
        self.events, self.tensors = [], {}


class Sharding:
    """The own plan: cuts a model's weights to those of one rank and sums or gathers where ranks meet."""

    def __init__(self, model, rank, world, fault):
        self.model, self.rank, self.world, self.fault = model, rank, world, fault
        self.partial = lambda name, tensor: None  # told of every term before it is summed
        self.key_heads = model.config.num_key_value_heads
        for name, module in model.named_modules():
            kind = name.rsplit(".", 1)[-1]
            if kind in ("q_proj", "gate_proj", "up_proj"):
                self.cut_rows(module, self.rank_of(kind, "column-shards-reversed", "q_proj"), world)
            elif kind in ("k_proj", "v_proj"):
                self.cut_rows(module, *self.key_part(faulty=fault == "key-heads-modulo"))
            elif kind in SUMS:
                self.cut_columns(name, module)
            elif kind == "self_attn":
                module.num_key_value_groups = (model.config.num_attention_heads // world) // max(1, self.key_heads // world)
        self.cut_vocabulary(model.model.embed_tokens, model.lm_head)
        if fault == "replica-differs" and rank == world - 1:
            model.model.layers[1].input_layernorm.weight.data[3] *= 1.25
        if fault == "residual-per-rank":
            layer = model.model.layers[1]
            layer.forward = residual_inside_sum(self, layer)

    def rank_of(self, kind, fault, broken):
        return self.world - 1 - self.rank if self.fault == fault and kind == broken else self.rank

    def key_part(self, faulty=False):
        """Which part of how many of the key/value heads this rank keeps."""
        if self.key_heads >= self.world:
            return self.rank, self.world
        return self.rank % self.key_heads if faulty else self.rank * self.key_heads // self.world, self.key_heads

    def cut_rows(self, module, part, of):
        module.weight.data = module.weight.data.chunk(of, 0)[part].clone()
        if module.bias is not None:
            module.bias.data = module.bias.data.chunk(of, 0)[part].clone()

    def cut_columns(self, name, module):
        part = self.rank_of(name.rsplit(".", 1)[-1], "row-shards-reversed", "down_proj")
        module.weight.data = module.weight.data.chunk(self.world, 1)[part].clone()
        bias, per_rank = module.bias, self.fault == "bias-per-rank" and name.endswith("o_proj")

        def forward(x):
            term = F.linear(x, module.weight, bias if per_rank else None)
            self.partial(name, term)
            if self.fault == "residual-per-rank" and name == "model.layers.1.self_attn.o_proj":
                return term
            out = self.sum(name, term)
            return out + bias if bias is not None and not per_rank else out

        module.forward = forward

    def sum(self, name, term):
        if self.fault == "sum-skipped" and name == "model.layers.1.mlp.down_proj":
            return term
        out = term.clone()
        if self.fault == "rank-missing" and name == "model.layers.1.self_attn.o_proj" and self.rank == self.world - 1:
            out.zero_()
        dist.all_reduce(out)
        return out

    def cut_vocabulary(self, embedding, head):
        rows = embedding.weight.shape[0] // self.world
        first = self.rank * rows

        def cut(weight, fault):
            late = int(self.fault == fault and self.rank > 0)
            return F.pad(weight, (0, 0, 0, 1))[first + late : first + late + rows].clone()

        table, logits = cut(embedding.weight.data, "embedding-shifted"), cut(head.weight.data, "logits-shifted")

        def look_up(ids):
            inside = (ids >= first) & (ids < first + rows)
            term = table[torch.where(inside, ids - first, 0)] * inside[..., None]
            self.partial("model.embed_tokens", term)
            return self.sum("model.embed_tokens", term)

        def project(x):
            own = F.linear(x, logits)
            parts = [torch.empty_like(own) for _ in range(self.world)]
            dist.all_gather(parts, own)
            return torch.cat(parts[::-1] if self.fault == "gather-reversed" else parts, -1)

        embedding.forward, head.forward = look_up, project


def residual_inside_sum(sharding, layer):
    """A layer's forward that sums over the ranks only after each has added the residual."""

    def forward(hidden, **options):
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **options)
        hidden = sharding.sum("model.layers.1.self_attn.o_proj", attended + hidden)
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden))

    return forward


def observe(model, recorder, rank, world, key_part, names_after_sum):
    """Hooks that record every module's output as this rank holds it."""
    of_columns = {"shard": {"axis": "c", "part": rank, "of": world}}
    of_heads = {"shard": {"axis": "h", "part": rank, "of": world}}
    of_keys = {"shard": {"axis": "h", "part": key_part[0], "of": key_part[1]}}
    attention_names = {module: name for name, module in model.named_modules() if name.endswith("self_attn")}

    def part(kind):
        if kind in ("k_proj", "v_proj", "k_norm"):
            return of_keys
        return of_heads if kind in ("q_proj", "q_norm") else of_columns if kind in COLUMNS else {}

    def after(name):
        kind = name.rsplit(".", 1)[-1]
        return lambda _module, _inputs, output: recorder.value(name, output[0] if isinstance(output, tuple) else output, **part(kind))

    def before(name, own):
        return lambda _module, inputs: recorder.value(f"{name}.input", inputs[0], **own)

    for name, module in model.named_modules():
        kind = name.rsplit(".", 1)[-1]
        if kind in ("o_proj", "down_proj", "post_attention_layernorm"):
            own = {"o_proj": of_heads, "down_proj": of_columns}.get(kind, {})
            module.register_forward_pre_hook(before(name, own))
        if name not in ("", "model") and kind not in ("rotary_emb", "layers") and names_after_sum(name):
            module.register_forward_hook(after(name))
    original = AttentionInterface.get_interface

    def get_interface(self, *arguments, **options):
        attend = original(self, *arguments, **options)

        def observed(module, query, key, *rest, **keywords):
            recorder.value(f"{attention_names[module]}.q_rope", query, **of_heads)
            # The keys of this step are the last ones; those before are the cache's.
            recorder.value(f"{attention_names[module]}.k_rope", key[:, :, -query.shape[2] :], **of_keys)
            return attend(module, query, key, *rest, **keywords)

        return observed

    AttentionInterface.get_interface = get_interface


def run(rank, options):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(options.ranks))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(options.port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=options.ranks)
    recorder = Recorder(f"{options.out}/rank{rank}", rank, options.ranks, options.dtype)
    load = {"dtype": getattr(torch, options.dtype), "local_files_only": True}
    if options.shards == "auto":
        model = AutoModelForCausalLM.from_pretrained(options.model_dir, tp_plan="auto", **load).eval()
        key_part = (rank, options.ranks)
        record_terms_of_all_reduce(model, recorder, rank, options.ranks)
    else:
        model = AutoModelForCausalLM.from_pretrained(options.model_dir, **load).eval()
        sharding = Sharding(model, rank, options.ranks, options.fault)
        key_part = sharding.key_part()
        term = {"partial": {"part": rank, "of": options.ranks}}
        sharding.partial = lambda name, tensor: recorder.value(name, tensor, **term)
    # Where the sum is taken later, what the module returned is its term.
    unsummed = ("model.layers.1.self_attn.o_proj", "model.layers.1.self_attn") if options.fault == "residual-per-rank" else ()
    observe(model, recorder, rank, options.ranks, key_part, lambda name: name not in unsummed)
    ids, cache = torch.tensor(options.ids), None
    for step in range(options.decode + 1):
        start = 0 if step == 0 else options.tokens + step - 1
        recorder.step(ids, torch.arange(start, start + ids.shape[1]).expand(ids.shape))
        with torch.no_grad():
            out = model(ids, past_key_values=cache, use_cache=True)
        recorder.finish()
        cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
    dist.barrier()
    dist.destroy_process_group()


def record_terms_of_all_reduce(model, recorder, rank, world):
    """transformers sums inside the module: the term is what all_reduce receives."""
    running = []
    for name, module in model.named_modules():
        if name.endswith(SUMS):
            module.register_forward_pre_hook(lambda _module, _inputs, name=name: running.append(name))
            module.register_forward_hook(lambda *_: running.pop() and None)
    reduce = dist.all_reduce

    def recorded(tensor, *arguments, **options):
        if running:
            recorder.value(running[-1], tensor, partial={"part": rank, "of": world})
        return reduce(tensor, *arguments, **options)

    dist.all_reduce = recorded


def make_random(directory, family):
    """A small random model whose every sum can go wrong visibly."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 128}
    sizes |= {"head_dim": 16, "num_key_value_heads": 4 if family == "qwen3" else 2, "tie_word_embeddings": False}
    biased = {"attention_bias": True, "mlp_bias": True} if family == "llama-bias" else {}
    config = Qwen3Config(**sizes) if family == "qwen3" else LlamaConfig(**sizes, **biased)
    torch.manual_seed(17)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        spread = 0.2 if parameter.dim() == 1 else 1.5 / parameter.shape[1] ** 0.5
        centre = 1.0 if name.endswith("norm.weight") else 0.0
        torch.nn.init.uniform_(parameter, centre - spread, centre + spread)
    model.to(torch.bfloat16).save_pretrained(directory)


def integers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("out", nargs="?", help="the directory that gets rank0, rank1, …")
    parser.add_argument("--random", choices=["qwen3", "llama", "llama-bias"], help="write a small random model to MODEL_DIR")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--shards", choices=["auto", "own"], default="own")
    parser.add_argument("--dtype", choices=["bfloat16", "float32", "float16"], default="bfloat16")
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--ids", nargs="+", type=integers, help="one comma-separated list of token ids per sequence")
    parser.add_argument("--decode", type=int, default=1, help="tokens to decode after the prompt")
    parser.add_argument("--port", type=int, default=29617)
    options = parser.parse_args()
    if options.random:
        return make_random(options.model_dir, options.random)
    if not options.out:
        parser.error("expected OUT, a directory for the recording")
    vocabulary = AutoConfig.from_pretrained(options.model_dir, local_files_only=True).vocab_size
    options.ids = options.ids or [[(37 * i + 11 * row + 5) % vocabulary for i in range(7)] for row in range(2)]
    options.tokens = len(options.ids[0])
    torch.multiprocessing.spawn(run, (options,), options.ranks)
    print(f"{options.out}: {options.ranks} ranks, {options.decode + 1} steps")


if __name__ == "__main__":
    main()
