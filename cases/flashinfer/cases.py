"""Which runs there are: a fault, a path through the model, prompts, and what of it is recorded."""

from dataclasses import dataclass, field

CALL_ME = [34, 453, 456, 321, 1130, 76, 64, 664, 13]
IT_WAS = [2328, 379, 259, 633]
CITIZENS = [37, 779, 342, 860, 266, 259, 1791]
#: "Call me Ishmael. Some years ago - never mind how long": the prompt of cases/exclamation-mark.
ISHMAEL = [*CALL_ME, 2997, 955, 2801, 481, 77, 888, 1771, 789, 741]


@dataclass(frozen=True)
class Case:
    """
    `prompts` come in chunks of `chunk` tokens, all sequences in one batch, and go on for `new_tokens` each. Recorded are
    `steps` of `layers` and `names` (None: all). Where layers are left out, so is what follows the last of them.
    """

    fault: str = "none"
    path: str = "fused"
    options: dict = field(default_factory=dict)
    prompts: tuple = (CALL_ME, IT_WAS, CITIZENS)
    chunk: int = 5
    new_tokens: int = 5
    layers: str | None = "0-1"
    steps: str = "0:5"
    names: str | None = "!model.norm,!lm_head"


RAGGED = {"ragged": True}
ALL = {"layers": None, "names": None}
ONE = {"prompts": (ISHMAEL,), "chunk": 18, "new_tokens": 2, "steps": "0", **ALL}

CASES = {
    # Right runs: the book's text, and nothing to find.
    "standard": Case(path="standard", new_tokens=24, steps="0:3", **ALL),
    "fused": Case(new_tokens=24, steps="0:3", **ALL),
    "standard-rope-kernel": Case(path="standard", options={"rope": "kernel"}, layers="0-3"),
    "fused-ragged": Case(options=RAGGED, chunk=16, layers="0-3"),
    "fused-decode": Case(layers="0-3", new_tokens=6, steps="2:6"),
    "fused-tensor-cores": Case(options={"tensor_cores": True}, layers="0-3"),
    # The three faults of the exclamation mark, together and alone.
    "exclamation-mark": Case("exclamation-mark", **ONE),
    "embedding-scaled": Case("embedding-scaled", steps="0:2"),
    "bias-unfilled": Case("bias-unfilled", steps="0:2"),
    "residual-dropped": Case("residual-dropped", steps="0:2"),
    # Seams between right kernels.
    "layout-mixed": Case("layout-mixed"),
    "strides-forgotten": Case("strides-forgotten"),
    "combined-split": Case("combined-split"),
    "indices-long": Case("indices-long", steps="0:2"),
    "last-page-short": Case("last-page-short"),
    "scale-wrong": Case("scale-wrong", path="standard"),
    "causal-forgotten": Case("causal-forgotten", path="standard"),
    "plan-stale": Case("plan-stale"),
    "key-unrotated": Case("key-unrotated", options=RAGGED, chunk=16),
    "cached-unrotated": Case("cached-unrotated"),
}
