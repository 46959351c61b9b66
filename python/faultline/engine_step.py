"""One forward pass of a serving engine: which value a module's result is, and whose rows it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .engine_names import cut_of
from .step import Step

if TYPE_CHECKING:
    from .engine import EngineRun

#: Modules whose first argument is a value of the spec that no module returns.
_INPUTS = ("o_proj", "down_proj")
#: Modules that return values of the spec under their own name.
_OUTPUTS = frozenset(
    ["embed_tokens", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj", "self_attn", "input_layernorm"]
    + ["post_attention_layernorm", "gate_proj", "up_proj", "act_fn", "down_proj", "mlp", "gate", "experts", "norm"]
    + ["pre_feedforward_layernorm", "post_feedforward_layernorm", "lm_head"]
)


@dataclass
class PageTable:
    """The pages that an attention call reads, in FlashInfer's words, as numbers of the host."""

    page_size: int
    kv_indptr: list[int]
    kv_indices: list[int]
    kv_last_page_len: list[int]
    qo_indptr: list[int]

    def lengths(self) -> list[int]:
        """Keys of each sequence."""
        pages = [after - before for before, after in zip(self.kv_indptr, self.kv_indptr[1:])]
        return [max(count - 1, 0) * self.page_size + last for count, last in zip(pages, self.kv_last_page_len)]


@dataclass
class _Rows:
    """What was said about the rows of the step so far."""

    token_ids: list[int] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    tables: list[PageTable] = field(default_factory=list)
    attention: list[dict[str, Any]] = field(default_factory=list)


class EngineStep:
    """A step under way. Values are recorded once for their producer and once for each consumer; the first to tell is kept."""

    def __init__(self, run: EngineRun, step: Step, batch: dict[str, Any]) -> None:
        self.run = run
        self.number = step.number
        self._step = step
        self._batch = batch
        self._rows = _Rows()
        self._seen: set[tuple[str, str, str | None]] = set()
        self._stack: list[str] = []
        self._calls: dict[str, int] = {}
        # What records the result of an attention module that has begun.
        self._tells: dict[str, Callable[[Any], None]] = {}

    # What wrappers of an engine's functions ask and tell.

    @property
    def names(self) -> Any:
        """Names of the model's modules and parameters."""
        return self.run.names

    def attention(self, call: str) -> str:
        """
        The attention module that runs at this moment: by the modules under way, else by how often `call` was made in this
        step, once per layer.
        """
        for path in reversed(self._stack):
            found = self.names.attention(path)
            if found is not None:
                return str(found)
        count = self._calls.get(call, 0)
        self._calls[call] = count + 1
        return f"{self.names.prefix}layers.{count}.self_attn"

    def layer(self) -> str | None:
        """The layer that runs at this moment; None outside of the layers."""
        return next((str(found) for path in reversed(self._stack) if (found := self.names.layer(path))), None)

    def has_query_key_norm(self) -> bool:
        """Whether the model normalises queries and keys."""
        return bool(self.names.has_query_key_norm)

    def records(self, name: str) -> bool:
        """Whether values of this name are recorded."""
        return self.run.selection.has_name(name)

    def value(self, name: str, tensor: Any, *, role: str = "output", by: str | None = None) -> None:
        """A value as its producer or a consumer addresses it: faultline.Step.value."""
        if not isinstance(tensor, torch.Tensor) or not self._is_new(name, role, by):
            return
        self._step.value(name, tensor, role=role, by=by, shard=self._part(name))

    def produced_or_read(self, name: str, tensor: Any, by: str) -> None:
        """A value as a consumer reads it; where nobody recorded it at its producer, it stands for that too."""
        known = (name, "output", None) in self._seen
        self.value(name, tensor, role="input" if known else "output", by=by if known else None)

    def pages(
        self,
        name: str,
        cache: torch.Tensor,
        *,
        layout: str,
        pages: Sequence[int],
        role: str,
        by: str,
        scale: float | None = None,
    ) -> None:
        """Pages of a cache as their writer or reader addresses them: faultline.Step.pages. Pages beyond the cache are left out."""
        inside = sorted({page for page in pages if 0 <= page < cache.shape[0]})
        if inside and self._is_new(name, role, by):
            shard = self._part(name)
            self._step.pages(name, cache, layout=layout, pages=inside, role=role, by=by, scale=scale, shard=shard)

    def rows(self, **fields: Any) -> None:
        """Fields of the format's `step` event as the runtime uses them; the first to tell is kept."""
        for key, value in fields.items():
            self._rows.fields.setdefault(key, value)

    def table(self, table: PageTable, call: dict[str, Any]) -> None:
        """
        The page table of an attention call, and its other arguments. Calls of one layer are parts of one batch, one after
        the other; those of further layers say the same again.
        """
        if self._is_first_layer(call["name"]):
            self._rows.tables.append(table)
        self._rows.attention.append(call)

    def _is_first_layer(self, name: str) -> bool:
        return all(call["name"] == name for call in self._rows.attention)

    def _is_new(self, name: str, role: str, by: str | None) -> bool:
        key = (name, role, None if role == "output" else by)
        if key in self._seen or not self.records(name):
            return False
        self._seen.add(key)
        return True

    def _part(self, name: str) -> dict[str, Any] | None:
        axis = cut_of(name)
        if self.run.shard is None or axis is None:
            return None
        return {"axis": axis, "part": self.run.shard[0], "of": self.run.shard[1]}

    # Hooks.

    def enter(self, path: str, module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """A module begins."""
        if _is_shared(path):
            return
        self._stack.append(path)
        if self.run.attention is not None and path.endswith("self_attn.attn"):
            self._tells[path] = self.run.attention(self, path.rpartition(".")[0], module, inputs, keywords)
        first = inputs[0] if inputs else next(iter(keywords.values()), None)
        last = path.rpartition(".")[2]
        if last == "embed_tokens" and isinstance(first, torch.Tensor) and self._rows.token_ids is None:
            self._rows.token_ids = first.detach().reshape(-1).tolist()
        elif last in _INPUTS:
            self.produced_or_read(f"{path}.input", first, last)

    def leave(
        self, path: str, module: torch.nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any
    ) -> None:
        """A module ends."""
        while not _is_shared(path) and self._stack and self._stack.pop() != path:
            pass
        tell = self._tells.pop(path, None)
        if tell is not None:
            tell(output)
        last = path.rpartition(".")[2]
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if last == "qkv_proj":
            self._split(path, first, ("q_proj", "k_proj", "v_proj"), _query_key_value_sizes(module, first))
        elif last == "gate_up_proj":
            self._split(path, first, ("gate_proj", "up_proj"), None)
        elif last == "rotary_emb" and isinstance(output, tuple) and len(output) == 2:
            self._rotated(inputs, keywords, output)
        elif last == "act_fn" and _is_gated(first, inputs):
            self.value(f"{path.rpartition('.')[0]}.down_proj.input", first)
        elif last == "logits_processor":
            self.value("lm_head", getattr(first, "next_token_logits", first))
        elif last in _OUTPUTS:
            stream = self.names.stream_before(path)
            if stream is not None and isinstance(output, tuple) and len(output) == 2:
                self.value(stream, output[1])
            self.value(path, first)
        elif self.names.layer(path) == path and isinstance(output, torch.Tensor):
            self.value(path, output)

    def _rotated(self, inputs: Sequence[Any], keywords: dict[str, Any], output: tuple[Any, Any]) -> None:
        attention = self.attention("rotary_emb")
        positions = keywords.get("positions", inputs[0] if inputs else None)
        self.value(f"{attention}.q_rope", output[0])
        self.value(f"{attention}.k_rope", output[1])
        if isinstance(positions, torch.Tensor) and positions.dim() == 1 and "positions" not in self._rows.fields:
            self.rows(positions=positions.tolist())

    def _split(self, path: str, packed: Any, names: Sequence[str], sizes: Sequence[int] | None) -> None:
        """Values that lie side by side in one product, each a view of its own columns."""
        if not isinstance(packed, torch.Tensor):
            return
        widths = sizes or [packed.shape[-1] // len(names)] * len(names)
        if sum(widths) != packed.shape[-1]:
            return
        before = path.rpartition(".")[0]
        for name, part in zip(names, packed.split(list(widths), dim=-1)):
            self.value(f"{before}.{name}", part)

    # The end.

    def finish(self) -> bool:
        """Say whose rows they were and write the step; False where nobody knows the tokens."""
        said = self._rows
        if said.token_ids is None:
            return False
        table = _joined(said.tables) if said.tables else None
        fields: dict[str, Any] = {}
        if table is not None:
            fields |= {"page_size": table.page_size, "kv_indptr": table.kv_indptr, "kv_indices": table.kv_indices}
            fields["kv_last_page_len"] = table.kv_last_page_len
        fields |= said.fields | self._batch
        fields.setdefault("token_ids", said.token_ids)
        if "qo_indptr" not in fields:
            fields["qo_indptr"] = table.qo_indptr if table is not None else [0, len(said.token_ids)]
        if "seq_ids" not in fields:
            fields["seq_ids"] = self._sequences(table, fields["qo_indptr"])
        if said.attention:
            fields["attention"] = _distinct(said.attention)
        self._step.rows(**fields)
        self._step.finish()
        return True

    def _sequences(self, table: PageTable | None, qo_indptr: Sequence[int]) -> list[int]:
        """
        A sequence is known by its first page: it goes on as long as it has keys from before, however many; without any, the page
        was given to another one.
        """
        run = self.run
        if table is None:
            first = run.next_sequence
            run.next_sequence += len(qo_indptr) - 1
            return list(range(first, run.next_sequence))
        ids: list[int] = []
        for b, length in enumerate(table.lengths()):
            before = length - (qo_indptr[b + 1] - qo_indptr[b])
            begin, end = table.kv_indptr[b], table.kv_indptr[b + 1]
            page = table.kv_indices[begin] if end > begin else -1
            known = run.sequences.get(page)
            if known is None or before <= 0 or known in ids:
                known = run.next_sequence
                run.next_sequence += 1
            run.sequences[page] = known
            ids.append(known)
        return ids


def _is_shared(path: str) -> bool:
    """Modules that engines keep one of for all layers: their path says nothing of the layer that runs."""
    return path.endswith("rotary_emb")


def _joined(tables: Sequence[PageTable]) -> PageTable:
    """Tables of parts of a batch, one after the other."""
    joined = PageTable(tables[0].page_size, [0], [], [], [0])
    for table in tables:
        joined.kv_indptr += [joined.kv_indptr[-1] + bound for bound in table.kv_indptr[1:]]
        joined.qo_indptr += [joined.qo_indptr[-1] + bound for bound in table.qo_indptr[1:]]
        joined.kv_indices += table.kv_indices
        joined.kv_last_page_len += table.kv_last_page_len
    return joined


def _distinct(calls: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arguments of attention calls, those that are equal but for the layer once, with the first layer's name."""
    kept: list[dict[str, Any]] = []
    for call in calls:
        if all({**call, "name": other["name"]} != other for other in kept):
            kept.append(call)
    return kept


def _query_key_value_sizes(module: torch.nn.Module, packed: Any) -> list[int] | None:
    """Columns of q, k and v in a packed projection, by the attributes that vLLM's and SGLang's have."""
    heads, key_heads = getattr(module, "num_heads", None), getattr(module, "num_kv_heads", None)
    if not isinstance(packed, torch.Tensor) or not heads or not key_heads:
        return None
    width = packed.shape[-1] // (heads + 2 * key_heads)
    return [heads * width, key_heads * width, key_heads * width]


def _is_gated(output: Any, inputs: Sequence[Any]) -> bool:
    """Whether an activation took gate and up side by side and gave their product."""
    return (
        isinstance(output, torch.Tensor)
        and bool(inputs)
        and isinstance(inputs[0], torch.Tensor)
        and inputs[0].shape[-1] == 2 * output.shape[-1]
    )


def numbers_of(tensor: torch.Tensor) -> list[int]:
    """The elements of a tensor of integers, in order."""
    return [int(number) for number in tensor.detach().reshape(-1).cpu().tolist()]
