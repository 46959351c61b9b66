"""Writes a step's bytes as a safetensors file: a header of names, types and places, then the bytes without holes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import torch

SAFETENSORS_TYPES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def type_name(dtype: torch.dtype) -> str:
    """The capture format's word for a type: "bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


@dataclass
class Span:
    """Consecutive elements of a storage: their type and a copy of their bytes, uint8 [bytes]."""

    dtype: torch.dtype
    data: np.ndarray


def write_tensor_file(path: Path, spans: Mapping[str, Span]) -> int:
    """Write `spans` as 1-D tensors; the file appears under its name only when it is complete. Returns its bytes."""
    header: dict[str, object] = {}
    end = 0
    for name, span in spans.items():
        begin, end = end, end + span.data.nbytes
        elements = span.data.nbytes // span.dtype.itemsize
        header[name] = {"dtype": SAFETENSORS_TYPES[span.dtype], "shape": [elements], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unfinished = path.with_name(path.name + ".unfinished")
    with open(unfinished, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for span in spans.values():
            file.write(span.data.data)
    os.replace(unfinished, path)
    return 8 + len(text) + end
