/** A pytest file that applies the criterion of a unit to an output: it needs numpy alone, and the files beside it. */
export const pytestFile = `"""The unit of unit.json alone. Run: python -m pytest test_unit.py

It judges what was recorded, and fails. Put the kernel to be tested into kernel() below, until it passes.
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
UNIT = json.loads((HERE / "unit.json").read_text(encoding="utf-8"))


def load(file):
    return np.load(HERE / file, allow_pickle=False)


def kernel(inputs, parameters):
    """The output [rows, columns] at UNIT["rows"] and UNIT["columns"], as a numpy array or a torch tensor.

    inputs: by name, [rows of that input, columns]; UNIT["inputs"] says which row is which token.
    parameters: by name, [rows of that parameter, columns]; UNIT["parameters"] says which rows these are.
    With torch: torch.from_numpy(inputs[name]).to(torch.bfloat16) gives back what the kernel read.
    """
    return load("data/observed.npy")


def as_numbers(output):
    if hasattr(output, "detach"):
        output = output.detach().cpu().double().numpy()
    return np.asarray(output, dtype=np.float64)


def test_unit():
    inputs = {entry["key"]: load(entry["file"]) for entry in UNIT["inputs"]}
    parameters = {entry["name"]: load(entry["file"]) for entry in UNIT["parameters"] if entry["file"]}
    output = as_numbers(kernel(inputs, parameters))
    expected = load("data/expected.npy").astype(np.float64)
    farthest = load("data/farthest.npy").astype(np.float64)
    assert output.shape == expected.shape, f"expected an output of {expected.shape}, found {output.shape}"
    judged = np.isfinite(farthest)
    with np.errstate(invalid="ignore"):
        apart = np.abs(output - expected)
        wrong = judged & ~(apart <= farthest)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        where = f"row {UNIT['rows'][row] if UNIT['rows'] else row}, column {UNIT['columns'][column]}"
        raise AssertionError(
            f"{UNIT['unit']}: {int(wrong.sum())} of {int(judged.sum())} elements are beyond rounding; the first, {where}: "
            f"expected {expected[row, column]} within {farthest[row, column]}, found {output[row, column]}"
        )
    if UNIT["mean_square"] is not None and judged.any():
        scale = np.where(judged & (farthest > 0), farthest, np.inf)
        mean_square = float(np.mean((apart[judged] / scale[judged] * UNIT["sigmas"]) ** 2))
        assert mean_square <= UNIT["mean_square"], (
            f"{UNIT['unit']}: no element alone is beyond rounding, all together are: their mean square is "
            f"{mean_square} in units of their rounding, at most {UNIT['mean_square']} is chance"
        )
`;
