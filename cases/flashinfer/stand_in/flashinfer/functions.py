"""Norms, RoPE, activation and append: float32 inside, one rounding at the end."""

import torch

from .memory import as_read, unpack


def rmsnorm(input, weight, eps=1e-6, out=None, enable_pdl=None):
    """[rows, hidden], or per head [rows, heads, head_dim]."""
    out = torch.empty_like(input) if out is None else out
    out.copy_(_normed(as_read(input).float(), weight, eps))
    return out


def fused_add_rmsnorm(input, residual, weight, eps=1e-6, enable_pdl=None):
    """residual += input, input = norm of the sum before it is rounded; both in place."""
    total = input.float() + residual.float()
    residual.copy_(total)
    input.copy_(_normed(total, weight, eps))


def _normed(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight.float()


def apply_rope_pos_ids(q, k, pos_ids, rotary_dim=None, interleave=False, rope_scale=1, rope_theta=1e4):
    width = rotary_dim or q.shape[-1]
    frequencies = (1 / rope_scale) * rope_theta ** (-2.0 * torch.arange(width // 2, dtype=torch.float32) / width)
    angles = pos_ids.float()[:, None] * frequencies
    return tuple(_rotated(x, angles.cos(), angles.sin(), interleave) for x in (q, k))


def apply_rope_pos_ids_inplace(q, k, pos_ids, rotary_dim=None, interleave=False, rope_scale=1, rope_theta=1e4):
    for x, rotated in zip((q, k), apply_rope_pos_ids(q, k, pos_ids, rotary_dim, interleave, rope_scale, rope_theta)):
        x.copy_(rotated)


def apply_rope_with_cos_sin_cache(positions, query, key, head_size, cos_sin_cache, is_neox=True):
    if cos_sin_cache.dtype != torch.float32:
        raise ValueError("cos_sin_cache should be float32")
    cos, sin = cos_sin_cache[positions.long()].chunk(2, dim=-1)
    heads = [x.view(x.shape[0], -1, head_size) for x in (query, key)]
    return tuple(_rotated(x, cos, sin, not is_neox).view(x.shape[0], -1) for x in heads)


def apply_rope_with_cos_sin_cache_inplace(positions, query, key, head_size, cos_sin_cache, is_neox=True):
    rotated = apply_rope_with_cos_sin_cache(positions, query, key, head_size, cos_sin_cache, is_neox)
    for x, turned in zip((query, key), rotated):
        x.copy_(turned)


def _rotated(x, cos, sin, interleave):
    """x [rows, heads, head_dim]; cos and sin [rows, head_dim / 2]."""
    read = as_read(x).float()
    cos, sin = cos[:, None], sin[:, None]
    low, high = (read[..., ::2], read[..., 1::2]) if interleave else read.chunk(2, dim=-1)
    turned = (low * cos - high * sin, high * cos + low * sin)
    joined = torch.stack(turned, -1).flatten(-2) if interleave else torch.cat(turned, -1)
    return joined.to(x.dtype)


def silu_and_mul(input, out=None, enable_pdl=None):
    gate, up = input.float().chunk(2, dim=-1)
    result = (torch.nn.functional.silu(gate) * up).to(input.dtype)
    if out is None:
        return result
    out.copy_(result)
    return out


def get_batch_indices_positions(append_indptr, seq_lens, nnz, batch_indices=None, positions=None):
    """Which sequence each appended row belongs to, and where in it; `seq_lens` count the appended rows too."""
    bounds, lengths = append_indptr.tolist(), seq_lens.tolist()
    pairs = [
        (b, row + lengths[b] - bounds[b + 1]) for b in range(len(lengths)) for row in range(bounds[b], bounds[b + 1])
    ]
    return tuple(torch.tensor([pair[i] for pair in pairs], dtype=torch.int32) for i in (0, 1))


def append_paged_kv_cache(
    append_key,
    append_value,
    batch_indices,
    positions,
    paged_kv_cache,
    kv_indices,
    kv_indptr,
    kv_last_page_len,
    kv_layout="NHD",
):
    """Rows into their pages. The library casts the indices here to int32, so every integer type is right."""
    keys, values = unpack(paged_kv_cache, kv_layout)
    if append_key.stride(-1) != 1 or append_value.stride(-1) != 1 or keys.stride() != values.stride():
        raise RuntimeError("k/v strides must be identical and their last dimension contiguous")
    indptr, indices = kv_indptr.tolist(), kv_indices.tolist()
    size = keys.shape[1]
    for row, (sequence, position) in enumerate(zip(batch_indices.tolist(), positions.tolist())):
        entry = indptr[sequence] * size + position
        page = indices[entry // size]
        keys[page, entry % size] = append_key[row]
        values[page, entry % size] = append_value[row]


