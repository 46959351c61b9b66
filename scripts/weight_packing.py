"""How public checkpoint formats lay narrow numbers into tensors, in torch alone. Codes are unsigned, [outputs, inputs]."""

import torch

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def words(values, bits, axis, order=None):
    """Fields of `bits` along `axis` in int32 words, the lowest bits first; field k of a word is number order[k] of its own."""
    each = 32 // bits
    values = values.long().movedim(axis, -1).unflatten(-1, (-1, each))
    total = torch.zeros(values.shape[:-1], dtype=torch.int64)
    for field in range(each):
        total |= values[..., order[field] if order else field] << (bits * field)
    return torch.where(total >= 2**31, total - 2**32, total).to(torch.int32).movedim(-1, axis).contiguous()


def awq_words(values):
    """AutoAWQ's GEMM layout of [inputs or groups, outputs]."""
    return words(values, 4, 1, AWQ_ORDER)


def nibbles(codes):
    """Two 4-bit codes to a byte, the lower half first."""
    low, high = codes.to(torch.uint8).unflatten(-1, (-1, 2)).unbind(-1)
    return low | (high << 4)


def fp4(values):
    """Values as the nearest numbers of e2m1, ties to the even code, and their codes."""
    size = values.abs().clamp(max=6.0)
    code = torch.bucketize(size, (FP4[1:] + FP4[:-1]) / 2)  # a tie belongs to the lower code
    tie = size == ((FP4[1:] + FP4[:-1]) / 2)[code.clamp(max=6)]
    code = torch.where(tie & (code % 2 == 1), code + 1, code)
    negative = values < 0
    return torch.where(negative, -FP4[code], FP4[code]), code + 8 * negative
