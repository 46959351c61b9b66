"""RMSNorm and the packed q, k, v projection in one Triton kernel."""

import torch
import triton
import triton.language as tl


@triton.jit
def _kernel(
    x,  # [rows, hidden]
    norm_weight,  # [hidden]
    weight,  # [columns, hidden]
    bias,  # [columns]
    out,  # [rows, columns]
    rows,
    columns,
    epsilon,
    x_stride,
    out_stride,
    hidden: tl.constexpr,
    has_bias: tl.constexpr,
    row_block: tl.constexpr,
    column_block: tl.constexpr,
):
    """A block of rows by a block of columns; each program normalises its rows for itself, so nothing goes through memory."""
    row = tl.program_id(0) * row_block + tl.arange(0, row_block)
    column = tl.program_id(1) * column_block + tl.arange(0, column_block)
    channel = tl.arange(0, hidden)
    stream = tl.load(x + row[:, None] * x_stride + channel[None, :], mask=row[:, None] < rows, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(stream * stream, axis=1) / hidden + epsilon)
    gain = tl.load(norm_weight + channel).to(tl.float32)
    # Tensor cores take the storage type: the normalised rows are rounded once, here.
    normed = (stream * scale[:, None] * gain[None, :]).to(out.dtype.element_ty)
    inside = column[None, :] < columns
    transposed = tl.load(weight + column[None, :] * hidden + channel[:, None], mask=inside, other=0.0)
    product = tl.dot(normed, transposed)
    if has_bias:
        product += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    where = out + row[:, None] * out_stride + column[None, :]
    tl.store(where, product.to(out.dtype.element_ty), mask=(row[:, None] < rows) & inside)


def fused_norm_qkv(x, norm_weight, weight, epsilon, bias=None):
    """
    The norm of x [rows, hidden], times weight [columns, hidden] transposed, plus bias [columns]: [rows, columns]. `hidden` is
    a power of two that fits one block. float32 sums; normalised rows and results are rounded to x's type.
    """
    rows, hidden = x.shape
    columns = weight.shape[0]
    out = torch.empty((rows, columns), dtype=x.dtype, device=x.device)
    row_block, column_block = 16, 64
    grid = (triton.cdiv(rows, row_block), triton.cdiv(columns, column_block))
    _kernel[grid](
        x,
        norm_weight,
        weight,
        weight if bias is None else bias,
        out,
        rows,
        columns,
        epsilon,
        x.stride(0),
        out.stride(0),
        hidden=hidden,
        has_bias=bias is not None,
        row_block=row_block,
        column_block=column_block,
    )
    return out
