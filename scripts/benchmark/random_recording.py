"""Recordings in the shape of a published model, for `faultline bench checker`: random weights, a correct run, and a faulty one.

Writes a bfloat16 Qwen3 checkpoint and two recordings of a prefill over it, every op rounded to bfloat16 as a GPU kernel stores it:

  FOLDER/model/                 config.json and model.safetensors
  FOLDER/clean.safetensors      the correct run
  FOLDER/fault.safetensors      the same run, except that the middle layer drops the residual beside its attention

Weights are cut from one pool of random numbers at changing offsets, and every tensor is written as soon as it is known. Pieces of one
weight are held at a time, so memory grows neither with the layers nor with the vocabulary.

usage: python3 random_recording.py FOLDER 0.6b|8b [TOKENS]          exit status 3 when numpy is not installed
       python3 random_recording.py --plan 0.6b|8b [TOKENS]          prints the bytes they take as one JSON object, writes nothing
"""

import json
import os
import struct
import sys
from math import prod

try:
    import numpy
except ImportError:
    print("numpy is not installed", file=sys.stderr)
    sys.exit(3)

# Layers, hidden size, intermediate size, query heads, key heads.
SHAPES = {"0.6b": (28, 1024, 3072, 16, 8), "8b": (36, 4096, 12288, 32, 8)}
HEAD = 128
VOCABULARY = 151936
EPSILON = 1e-6
THETA = 1e6
# A prime, so that no two rows of a weight are equal.
POOL = 2**26 - 5
# Elements of a weight that are widened to float32 at a time.
PIECE = 2**24
# Room for a file's header, which is written last: a header may end in spaces.
HEADER = 2**18


def bits(values):
    """The bfloat16 nearest to each value, ties to even."""
    raw = numpy.ascontiguousarray(values, numpy.float32).view(numpy.uint32)
    return ((raw + 0x7FFF + ((raw >> 16) & 1)) >> 16).astype(numpy.uint16)


def wide(values):
    """float32 of bfloat16 bits."""
    return (values.astype(numpy.uint32) << 16).view(numpy.float32)


def rounded(values):
    """The values after they were stored as bfloat16."""
    return wide(bits(values))


class Writer:
    """A safetensors file, written tensor by tensor."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.file.write(bytes(8 + HEADER))
        self.entries = {}
        self.end = 0

    def add(self, name, dtype, shape, pieces):
        begin = self.end
        for piece in pieces:
            self.file.write(memoryview(numpy.ascontiguousarray(piece)).cast("B"))
            self.end += piece.nbytes
        self.entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, self.end]}

    def record(self, name, values, shape):
        self.add(name, "BF16", shape, [bits(values)])

    def close(self):
        header = json.dumps(self.entries).encode()
        if len(header) > HEADER:
            raise ValueError(f"the header takes {len(header)} bytes, {HEADER} were kept for it")
        self.file.seek(0)
        self.file.write(struct.pack("<Q", HEADER) + header.ljust(HEADER))
        self.file.close()


class Model:
    """A shape, and where its weights lie in the file."""

    def __init__(self, shape):
        self.layers, self.hidden, self.inner, self.queries, self.keys = SHAPES[shape]

    def parameters(self):
        """Name and shape of every parameter; those with one axis are norms. lm_head is the embedding."""
        yield "model.embed_tokens.weight", (VOCABULARY, self.hidden)
        yield "model.norm.weight", (self.hidden,)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "self_attn.q_proj.weight", (self.queries * HEAD, self.hidden)
            yield prefix + "self_attn.k_proj.weight", (self.keys * HEAD, self.hidden)
            yield prefix + "self_attn.v_proj.weight", (self.keys * HEAD, self.hidden)
            yield prefix + "self_attn.o_proj.weight", (self.hidden, self.queries * HEAD)
            yield prefix + "mlp.gate_proj.weight", (self.inner, self.hidden)
            yield prefix + "mlp.up_proj.weight", (self.inner, self.hidden)
            yield prefix + "mlp.down_proj.weight", (self.hidden, self.inner)
            yield prefix + "input_layernorm.weight", (self.hidden,)
            yield prefix + "post_attention_layernorm.weight", (self.hidden,)
            yield prefix + "self_attn.q_norm.weight", (HEAD,)
            yield prefix + "self_attn.k_norm.weight", (HEAD,)

    def config(self):
        sizes = {"num_hidden_layers": self.layers, "hidden_size": self.hidden, "intermediate_size": self.inner}
        heads = {"num_attention_heads": self.queries, "num_key_value_heads": self.keys, "head_dim": HEAD}
        constants = {"rms_norm_eps": EPSILON, "rope_theta": THETA, "hidden_act": "silu", "attention_bias": False}
        limits = {"vocab_size": VOCABULARY, "max_position_embeddings": 40960, "tie_word_embeddings": True}
        kind = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16"}
        return {**kind, **sizes, **heads, **constants, **limits}

    def write(self, folder, random):
        os.makedirs(folder)
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(self.config(), file, indent=2)
        pool = numpy.empty(POOL, numpy.uint16)
        for first in range(0, POOL, 2**22):
            part = pool[first : first + 2**22]
            part[:] = bits(random.standard_normal(part.size, dtype=numpy.float32) * 0.02)
        self.path = os.path.join(folder, "model.safetensors")
        weights = Writer(self.path)
        for index, (name, shape) in enumerate(self.parameters()):
            if len(shape) == 1:
                weights.record(name, 1 + 0.2 * random.standard_normal(shape), shape)
            else:
                weights.add(name, "BF16", shape, turned(pool, index * 102947 % POOL, prod(shape)))
        weights.close()
        self.entries = weights.entries

    def rows(self, name, first, count):
        """Rows of a weight [rows, columns], read from the file."""
        entry = self.entries[name + ".weight"]
        columns = entry["shape"][-1]
        place = 8 + HEADER + entry["data_offsets"][0] + 2 * first * columns
        return wide(numpy.fromfile(self.path, numpy.uint16, count * columns, offset=place).reshape(count, columns))

    def times(self, x, name):
        """x [tokens, columns] by the transposed weight, stored as bfloat16."""
        count, columns = self.entries[name + ".weight"]["shape"]
        step = PIECE // columns
        pieces = ((first, min(step, count - first)) for first in range(0, count, step))
        return numpy.concatenate([rounded(x @ self.rows(name, *piece).T) for piece in pieces], -1)

    def norm(self, x, name):
        exact = x.astype(numpy.float64)
        normed = rounded(exact / numpy.sqrt((exact * exact).mean(-1, keepdims=True) + EPSILON))
        return rounded(self.rows(name, 0, 1) * normed)


def turned(pool, start, count):
    """`count` elements of the pool from `start` on, over its end as often as it takes."""
    while count > 0:
        piece = pool[start : start + count]
        yield piece
        count -= piece.size
        start = 0


def rotated(x, cosine, sine):
    """Rotary embedding of x [heads, tokens, HEAD], each product stored."""
    a, b = x[..., : HEAD // 2], x[..., HEAD // 2 :]
    first = rounded(rounded(a * cosine) + rounded(-b * sine))
    return numpy.concatenate([first, rounded(rounded(b * cosine) + rounded(a * sine))], -1)


def attended(q, k, v):
    """Causal attention of q [heads, tokens, HEAD], stored probabilities and output, as [tokens, heads * HEAD]."""
    group = len(q) // len(k)
    tokens = q.shape[1]
    scores = numpy.einsum("htd,hsd->hts", q, numpy.repeat(k, group, 0)) * HEAD**-0.5
    scores = numpy.where(numpy.tril(numpy.ones((tokens, tokens), bool)), scores, -numpy.inf)
    scores = numpy.exp(scores - scores.max(-1, keepdims=True))
    scores = rounded(scores / scores.sum(-1, keepdims=True))
    out = rounded(numpy.einsum("hts,hsd->htd", scores, numpy.repeat(v, group, 0)))
    return out.transpose(1, 0, 2).reshape(tokens, -1)


def run(model, ids, path, faulty_layer):
    """Records a prefill of `ids`; layer `faulty_layer`, if any, does not add its input to its attention."""
    out = Writer(path)
    tokens = len(ids)
    out.add("input_ids", "I32", (1, tokens), [ids])

    def record(name, values, shape=None):
        out.record(name, values, (1, *(shape or values.shape)))
        return values

    def linear(x, name):
        return record(name, model.times(x, name))

    def normed(x, name):
        return record(name, model.norm(x, name))

    angles = numpy.arange(tokens)[:, None] / THETA ** (numpy.arange(0, HEAD, 2) / HEAD)
    cosine, sine = rounded(numpy.cos(angles)), rounded(numpy.sin(angles))
    x = record("model.embed_tokens", numpy.concatenate([model.rows("model.embed_tokens", int(token), 1) for token in ids]))
    for layer in range(model.layers):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        h = normed(x, prefix + "input_layernorm")
        q, k, v = (linear(h, f"{attention}{name}_proj").reshape(tokens, -1, HEAD) for name in "qkv")
        q, k = normed(q, attention + "q_norm"), normed(k, attention + "k_norm")
        q, k, v = (heads.transpose(1, 0, 2) for heads in (q, k, v))
        q = record(attention + "q_rope", rotated(q, cosine, sine))
        k = record(attention + "k_rope", rotated(k, cosine, sine))
        o = linear(record(attention + "o_proj.input", attended(q, k, v)), attention + "o_proj")
        record(prefix + "self_attn", o)
        x = o if layer == faulty_layer else rounded(x + o)
        h = normed(x, prefix + "post_attention_layernorm")
        gate, up = linear(h, prefix + "mlp.gate_proj"), linear(h, prefix + "mlp.up_proj")
        down = linear(rounded(rounded(gate / (1 + numpy.exp(-gate))) * up), prefix + "mlp.down_proj")
        record(prefix + "mlp", down)
        x = record(prefix[:-1], rounded(x + down))
    x = normed(x, "model.norm")
    record("lm_head", model.times(x, "model.embed_tokens"))
    out.close()


def plan(model, tokens):
    """Bytes of the checkpoint and of one recording."""
    layer = 7 * model.hidden + (4 * model.queries + 4 * model.keys) * HEAD + 2 * model.inner
    recorded = 2 * tokens * (model.layers * layer + 2 * model.hidden + VOCABULARY) + 4 * tokens
    checkpoint = sum(2 * prod(shape) for _, shape in model.parameters())
    return {"checkpointBytes": checkpoint + HEADER + 8, "recordingBytes": recorded + HEADER + 8}


def main():
    folder, shape = sys.argv[1:3]
    tokens = int(sys.argv[3]) if len(sys.argv) > 3 else 64
    model = Model(shape)
    if folder == "--plan":
        print(json.dumps(plan(model, tokens)))
        return
    random = numpy.random.default_rng(0)
    model.write(os.path.join(folder, "model"), random)
    ids = random.integers(0, VOCABULARY, tokens).astype(numpy.int32)
    run(model, ids, os.path.join(folder, "clean.safetensors"), None)
    run(model, ids, os.path.join(folder, "fault.safetensors"), model.layers // 2)


main()
