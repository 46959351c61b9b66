"""What a kernel finds in the memory of a tensor."""

import torch


def words(tensor: torch.Tensor, dtype: torch.dtype) -> list[int]:
    """An index array as a kernel built for `dtype` reads it: the memory, whatever the tensor's own type."""
    flat = tensor.contiguous().reshape(-1)
    return (flat if flat.dtype == dtype else flat.view(dtype)).tolist()


def as_read(tensor: torch.Tensor) -> torch.Tensor:
    """The elements a kernel reads: it takes the strides of all axes but the last, which it believes to be 1."""
    strides = (*tensor.stride()[:-1], 1)
    return tensor.as_strided(tensor.shape, strides, tensor.storage_offset())


def unpack(cache: object, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [page, slot, head, channel] of a pair or of one tensor with both, in either layout."""
    keys, values = (cache[:, 0], cache[:, 1]) if isinstance(cache, torch.Tensor) else cache
    if layout == "NHD":
        return keys, values
    return keys.transpose(1, 2), values.transpose(1, 2)
