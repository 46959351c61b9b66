"""The baseline that `faultline bench checker` compares itself with: numpy.allclose over two safetensors files.

Both files are mapped, and every tensor they share is compared in chunks of rows, so that memory stays bounded.
numpy has no bfloat16: its bits are widened to float32 first, as any numpy user has to.

usage: python3 allclose.py REFERENCE TARGET      prints one JSON object; exit status 3 when numpy is not installed
"""

import json
import resource
import struct
import sys
import time

try:
    import numpy
except ImportError:
    print("numpy is not installed", file=sys.stderr)
    sys.exit(3)

CHUNK = 2**20
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def tensors(path):
    """Every tensor of the file by name: its dtype code and its elements, mapped."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        found[name] = entry["dtype"], data[8 + length + begin : 8 + length + end].view(TYPES[entry["dtype"]])
    return found


def widened(code, values):
    """The values as numpy can compute with them."""
    if code != "BF16":
        return values
    return (values.astype(numpy.uint32) << 16).view(numpy.float32)


def main():
    reference, target = (tensors(path) for path in sys.argv[1:3])
    start = time.perf_counter()
    cpu_start = time.process_time()
    count = 0
    different = 0
    for name, (code, values) in reference.items():
        if name not in target:
            continue
        other_code, others = target[name]
        close = True
        for first in range(0, values.size, CHUNK):
            a = widened(code, values[first : first + CHUNK])
            b = widened(other_code, others[first : first + CHUNK])
            close &= bool(numpy.allclose(a, b, rtol=1e-2, atol=1e-5, equal_nan=True))
        count += values.size
        different += not close
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"numpy": numpy.__version__, "seconds": seconds, "cpuSeconds": cpu, "peakBytes": peak}
    print(json.dumps({**figures, "elements": count, "different": different}))


main()
