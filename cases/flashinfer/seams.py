"""
The places where the parts of this engine meet, right and wrong: `Seams` is right, each of `FAULTS` overrides one thing, as an
engineer would write it by mistake.
"""

import torch


class Seams:
    """What the parts hand to each other."""

    def embedded(self, hidden):
        """[rows, hidden] as the first layer gets it."""
        return hidden

    def bias(self, layer, columns, device):
        """The bias of the packed projection, of so many `columns` for queries, keys and values; this model has none."""
        return None

    def adds_attention(self):
        """Whether the attention's output is added to the stream."""
        return True

    def appended(self, qkv, key, value):
        """Keys and values [rows, key heads, head_dim] as the append gets them; qkv [rows, all] is where they come from."""
        return key, value

    def keys_to_attend(self, unrotated, rotated):
        """Keys for attention over the new tokens themselves, and for the cache."""
        return rotated

    def keys_to_append(self, unrotated, rotated):
        """Keys for the cache."""
        return rotated

    def read_layout(self):
        """How attention is told that the cache lies."""
        return "NHD"

    def read(self, cache):
        """A layer's cache [pages, 2, page_size, key heads, head_dim] as attention gets it."""
        return cache[:, 0], cache[:, 1]

    def indices(self, indices, is_decode):
        """Page numbers as they are planned."""
        return indices

    def last_page_len(self, lengths, is_decode):
        """Entries of the last pages as they are planned."""
        return lengths

    def prefill_settings(self, head_dim):
        """Further arguments of the prefill's plan."""
        return {"causal": True}

    def decode_settings(self, head_dim):
        """Further arguments of the decode's plan."""
        return {}

    def plans_decode(self, steps_before):
        """Whether the decode wrapper is planned in this decode step."""
        return True


class EmbeddingScaled(Seams):
    """Embeddings are divided by the root of the hidden size, which Qwen3 does not do."""

    def embedded(self, hidden):
        return hidden * hidden.shape[-1] ** -0.5


class BiasUnfilled(Seams):
    """
    The packed projection was built with a bias that no checkpoint fills. Memory that nobody wrote holds anything: here, in
    layer 1, small numbers and a few left over from something else.
    """

    def bias(self, layer, columns, device):
        parts = [torch.zeros(count, dtype=torch.bfloat16) for count in columns]
        if layer == 1:
            generator = torch.Generator().manual_seed(1)
            for part in parts:
                part.copy_(torch.randn(part.shape, generator=generator) * 1e-3)
                places = torch.randperm(len(part), generator=generator)[:5]
                part[places] = torch.tensor([1.7e29, -3.1e28, 8.8e-12, 4.4e27, -2.2]).bfloat16()
        return torch.cat(parts).to(device)


class ResidualDropped(Seams):
    """Each side believes that the other adds the attention's output to the stream."""

    def adds_attention(self):
        return False


class ExclamationMark(EmbeddingScaled, BiasUnfilled, ResidualDropped):
    """The three together: "!" for every token."""


class LayoutMixed(Seams):
    """The cache is written token by token (NHD) and handed to attention as head by head (HND)."""

    def read_layout(self):
        return "HND"

    def read(self, cache):
        pages, _, size, heads, width = cache.shape
        # One allocation of the right size, seen in the other layout.
        return cache[:, 0].view(pages, heads, size, width), cache[:, 1].view(pages, heads, size, width)


class StridesForgotten(Seams):
    """Keys and values are slices of the packed rows; whoever wrapped their pointers for the append took them for dense."""

    def appended(self, qkv, key, value):
        rows, heads, width = value.shape
        dense = (heads * width, width, 1)
        return key, value.as_strided((rows, heads, width), dense, value.storage_offset())


class CombinedSplit(Seams):
    """The buffer is [pages, 2, ...]; attention takes it for [2, pages, ...]."""

    def read(self, cache):
        halves = cache.view(2, cache.shape[0], *cache.shape[2:])
        return halves[0], halves[1]


class IndicesLong(Seams):
    """Page numbers of the prefill are int64, as torch makes them; the kernel reads the memory as int32. Decode checks the type."""

    def indices(self, indices, is_decode):
        return indices if is_decode else indices.long()


class LastPageShort(Seams):
    """The length of the last page is that from before the new token."""

    def last_page_len(self, lengths, is_decode):
        return torch.clamp(lengths - 1, min=1) if is_decode else lengths


class ScaleWrong(Seams):
    """Scores are divided by head_dim, not by its root."""

    def prefill_settings(self, head_dim):
        return {"causal": True, "sm_scale": 1 / head_dim}

    def decode_settings(self, head_dim):
        return {"sm_scale": 1 / head_dim}


class CausalForgotten(Seams):
    """`causal` is left at its default, which is False."""

    def prefill_settings(self, head_dim):
        return {}


class PlanStale(Seams):
    """The decode wrapper is planned once and run for every further token."""

    def plans_decode(self, steps_before):
        return steps_before == 0


class KeyUnrotated(Seams):
    """The prefill over the new tokens gets the keys from before RoPE; the cache gets the right ones."""

    def keys_to_attend(self, unrotated, rotated):
        return unrotated


class CachedUnrotated(Seams):
    """Keys are appended before they are rotated."""

    def keys_to_append(self, unrotated, rotated):
        return unrotated


FAULTS = {
    "none": Seams,
    "embedding-scaled": EmbeddingScaled,
    "bias-unfilled": BiasUnfilled,
    "residual-dropped": ResidualDropped,
    "exclamation-mark": ExclamationMark,
    "layout-mixed": LayoutMixed,
    "strides-forgotten": StridesForgotten,
    "combined-split": CombinedSplit,
    "indices-long": IndicesLong,
    "last-page-short": LastPageShort,
    "scale-wrong": ScaleWrong,
    "causal-forgotten": CausalForgotten,
    "plan-stale": PlanStale,
    "key-unrotated": KeyUnrotated,
    "cached-unrotated": CachedUnrotated,
}
