"""Records what a Hugging Face decoder computes: every module by name, and what passes between modules."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch

from . import interception
from .calls import Calls
from .compiled import is_compiled, replaced, uncompiled, visible_modules
from .generation import Generation
from .hooks import hook, pre_hook, returned_values, say_compiled, telling
from .observers import Observers
from .ranks import Ranks
from .selection import Selection, layer_of
from .sequences import Pass, Sequences, UnevenPaddingError, cache_fields, rows_of
from .step import Step
from .writer import CaptureWriter

#: Their results are intermediate values of the unit around them, or no tensor of the model's data flow.
_UNRECORDED = ("act_fn", "activation_fn", "rotary_emb", "dropout")
#: Modules whose input is a value that no module returns.
_WITH_INPUT = ("o_proj", "down_proj", "lm_head")
#: Settings of models that change the logits behind lm_head.
_AFTER_HEAD = ("final_logit_softcapping", "logits_scaling")
_ATTENTION = ("self_attn", "attn", "attention", "self_attention")


class ModelRecorder:
    """Observes one model and writes what it sees. `start` and `stop` put all observers on and take them off."""

    def __init__(self, model: torch.nn.Module, writer: CaptureWriter, selection: Selection, ranks: Ranks | None) -> None:
        self.model = uncompiled(model)
        self.writer = writer
        self.selection = selection
        self.ranks = ranks
        self.sequences = Sequences()
        self.generation = Generation(writer)
        self._parameters = list(inspect.signature(type(self.model).forward).parameters)[1:]
        self._inner = Observers()
        self._outer = Observers()
        self._attention: dict[torch.nn.Module, str] = {}
        self._running: list[str] = []
        self._recording = False
        self._step: Step | None = None
        self._pass: Pass | None = None
        self._thread: int | None = None
        base = getattr(self.model, getattr(self.model, "base_model_prefix", ""), None)
        self._base = base if isinstance(base, torch.nn.Module) else None
        # A model without a head is the base model of one with a head.
        self._prefix = "" if self._base is not None else f"{getattr(self.model, 'base_model_prefix', 'model')}."
        begins, ends = self._guarded(self._begins), self._guarded(self._ends)
        self._calls = Calls(model, self._base, begins, ends, self._inner)
        self._calls.observe(self._outer, self.generation)
        self._observe_modules()

    @property
    def compiled(self) -> list[str]:
        """What is compiled, and therefore recorded at its borders alone."""
        return self._calls.compiled

    def start(self) -> None:
        """Begin to observe."""
        self._outer.on()
        self._inner.on()

    def stop(self) -> None:
        """Leave the model as it was."""
        self._inner.off()
        self._outer.off()

    # The passes of the model.

    def _begins(self, module: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if self._pass is not None and self._thread == threading.get_ident() and self._pass.module is not module:
            return
        given = dict(zip(self._parameters, arguments)) | options
        tokens = given.get("input_ids")
        if tokens is None or tokens.dim() != 2:
            self.writer.note(without_tokens="passes that were given no input_ids [sequences, columns] are not recorded")
            return
        self._thread = threading.get_ident()
        cache = interception.cache_among(given.values())
        cached = 0 if cache is None else int(cache.get_seq_length())
        mask = self.generation.mask_of(given.get("attention_mask"), tokens)
        batch = self.sequences.batch(cache, cached, tokens, mask)
        self._pass = Pass(module, tokens, cached, batch, cache)
        self._pass.positions = given.get("position_ids")
        self._step = self.writer.step()
        self._recording = self.selection.has_step(self._step.number)
        self._running.clear()

    def _ends(self, module: torch.nn.Module, output: Any, compiled: bool = False) -> None:
        current, step = self._pass, self._step
        if current is None or step is None or current.module is not module or self._thread != threading.get_ident():
            return
        if output is not None and self._recording:
            self._record_logits(output, compiled)
        self._pass = self._step = None
        if output is None:
            return
        made = interception.cache_among(output.values() if isinstance(output, dict) else ())
        if current.cache is None and made is not None:
            # The model made a cache of its own, where nobody could see it.
            self.sequences.adopt(made, current.batch)
        try:
            rows = rows_of(current.batch, current.cached, current.tokens, current.positions)
        except UnevenPaddingError as error:
            self.writer.note(uneven_padding=f"step {step.number}: {error}; it is not recorded")
            return
        if current.page_size is not None or current.cached:
            columns = current.tokens.shape[1]
            places = rows.get("row_map", range(len(rows["token_ids"])))
            # Where no cache was seen the lengths count all the same: tokens from before the recording are known by them.
            rows |= cache_fields(current.batch, places, columns, current.page_size or current.batch.columns)
        if self._recording:
            rows["attention"] = current.attention or None
        step.rows(**rows)
        step.finish()
        self.generation.computed(step.number, current.batch)
        if not self.selection.has_step_from(step.number + 1) or self.writer.is_full:
            self._inner.off()

    def _record_logits(self, output: Any, compiled: bool) -> None:
        logits = getattr(output, "logits", None)
        if not isinstance(logits, torch.Tensor):
            return
        changed = any(getattr(self.model.config, name, None) is not None for name in _AFTER_HEAD)
        name = "logits" if changed else "lm_head"
        if (changed or compiled or is_compiled(self.model)) and self.selection.has_name(name):
            self._value(name, logits)

    # The modules of a pass.

    def _observe_modules(self) -> None:
        if not is_compiled(self.model) or getattr(self.model, "_compiled_call_impl", None) is not None:
            for name, module in visible_modules(self.model):
                if module is self._base:
                    if is_compiled(module):
                        self._calls.compiled.append(name)
                    continue
                self._observe_module(self._prefix + name, module)
            self._inner.add(lambda: interception.listen(self))
        for what in self._calls.compiled:
            say_compiled(what)

    def _observe_module(self, name: str, module: torch.nn.Module) -> None:
        kind = name.rsplit(".", 1)[-1]
        if kind == "rotary_emb":
            self._inner.add(pre_hook(module, lambda _, a, k: self._guarded(self._turns)(a, k)))
        if is_compiled(module) and kind not in _UNRECORDED:
            self._calls.compiled.append(name)
            if getattr(module, "_compiled_call_impl", None) is not None:
                keep = self._guarded(self._returns)
                self._inner.add(lambda: replaced(module, "_compiled_call_impl", telling(lambda out: keep(name, out))))
                return
        if kind in _ATTENTION:
            self._attention[module] = name
        if kind in (*_ATTENTION, "o_proj", "down_proj"):
            self._inner.add(pre_hook(module, lambda *_: self._running.append(name)))
            self._inner.add(hook(module, lambda *_: self._leaves(name), always=True))
        if kind in _WITH_INPUT:
            take = self._guarded(self._takes)
            self._inner.add(pre_hook(module, lambda _, a, k: take(f"{name}.input", a)))
        if kind not in _UNRECORDED and not isinstance(module, torch.nn.ModuleList) and self.selection.has_name(name):
            keep = self._guarded(self._returns)
            self._inner.add(hook(module, lambda _, __, out: keep(name, out)))

    def _leaves(self, name: str) -> None:
        if name in self._running:
            del self._running[self._running.index(name) :]

    def _turns(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """RoPE is given the positions that count."""
        positions = options.get("position_ids", arguments[1] if len(arguments) > 1 else None)
        if self._pass is not None and isinstance(positions, torch.Tensor):
            self._pass.positions = positions

    def _takes(self, name: str, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], torch.Tensor):
            self._value(name, arguments[0])

    def _returns(self, name: str, output: Any) -> None:
        for value, tensor in returned_values(name, output).items():
            self._value(value, tensor)

    # What passes between modules.

    def appends(self, cache: Any, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keys as they are appended, values as the append reads them."""
        self._guarded(self._appends)(cache, key, value)

    def _appends(self, cache: Any, key: torch.Tensor, value: torch.Tensor) -> None:
        name = self._attending()
        if name is None or self._pass is None:
            return
        if self._pass.cache is None:
            if int(cache.get_seq_length()) > 0:
                raise RuntimeError("a cache that was not given to the model holds keys: whose they are is not known")
            # The model made a cache of its own.
            self._pass.cache = cache
            self.sequences.adopt(cache, self._pass.batch)
        self._value(f"{name}.k_rope", key)
        self._value(f"{name}.v_proj", value, role="input", by="append")

    def appended(self, cache: Any, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """The cache right after the append."""
        self._guarded(self._caches)("output", "append", keys, values)

    def _caches(self, role: str, by: str, keys: torch.Tensor, values: torch.Tensor) -> None:
        name, current = self._attending(), self._pass
        if name is None or current is None or not self._is_on():
            return
        slots = keys.shape[2]
        # A window that has moved on holds other columns than its neighbours: one page table cannot say both.
        if slots < current.batch.columns or current.page_size not in (None, slots):
            return
        current.page_size = slots
        for side, tensor in (("k_cache", keys), ("v_cache", values)):
            value = f"{name}.{side}"
            if self.selection.has_name(value) and tensor.dim() == 4:
                shard = self.ranks.part_of(value, tensor.shape[1] * tensor.shape[3]) if self.ranks else None
                pages = range(tensor.shape[0])
                assert self._step is not None
                self._step.pages(value, tensor, layout="HND", pages=pages, role=role, by=by, shard=shard)

    def attends(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scaling: Any
    ) -> None:
        """Queries, keys and mask as attention receives them."""
        if module in self._attention:
            self._guarded(self._attends)(self._attention[module], module, query, key, value, mask, scaling)

    def _attends(self, name: str, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: Any) -> None:
        current = self._pass
        layer = layer_of(name)
        if current is None or not self._is_on() or (layer is not None and not self.selection.has_layer(layer)):
            return
        self._value(f"{name}.q_rope", query)
        if current.cache is None:
            self._value(f"{name}.k_rope", key)
            self._value(f"{name}.v_proj", value, role="input", by="attention")
        elif key.dim() == 4 and key.shape[0] == len(current.batch.seq_ids):
            self._caches("input", "attention", key, value)
        if not current.attention:
            implementation = getattr(module.config, "_attn_implementation", None)
            current.attention |= {"layer": name, "implementation": implementation, "scaling": scaling}
            if isinstance(mask, torch.Tensor):
                assert self._step is not None
                current.attention["mask"] = self._step.view(f"{name}.mask", mask)

    def reorders(self, cache: Any) -> None:
        """Sequences that a cache held go on as new ones."""
        self.sequences.forget(cache)

    def sums(self, term: torch.Tensor) -> None:
        """A rank's term of a sum, before the sum."""
        self._guarded(self._sums)(term)

    def _sums(self, term: torch.Tensor) -> None:
        if self.ranks and self._running and self._running[-1].endswith(("o_proj", "down_proj")):
            self._value(self._running[-1], term, partial=self.ranks.term())

    def _attending(self) -> str | None:
        return next((name for name in reversed(self._running) if name.endswith(_ATTENTION)), None)

    def _is_on(self) -> bool:
        return self._step is not None and self._recording and self._thread == threading.get_ident()

    def _value(self, name: str, tensor: torch.Tensor, role: str = "output", by: str | None = None, partial: Any = None) -> None:
        if not self._is_on() or not self.selection.has_name(name):
            return
        assert self._step is not None and self._pass is not None
        if hasattr(tensor, "to_local"):
            tensor = tensor.to_local()
        count, columns = self._pass.tokens.shape
        if tensor.dim() == 4 and name.endswith("_norm") and tensor.shape[2] == columns != tensor.shape[1]:
            self.writer.order_axes(f"*.{name.rsplit('.', 1)[-1]}", "b h t d")
        shard = None
        if self.ranks and partial is None:
            own = tensor.shape[-1] if tensor.dim() < 4 else tensor.numel() // (count * columns)
            shard = self.ranks.part_of(name, own)
        self._step.value(name, tensor, role=role, by=by, shard=shard, partial=partial)

    def _guarded(self, act: Callable[..., None]) -> Callable[..., None]:
        """A recorder that fails stops, and the run goes on."""

        def guarded(*arguments: Any, **options: Any) -> None:
            try:
                act(*arguments, **options)
            except Exception as error:  # noqa: BLE001: whatever it is, it is not the run's
                self._step = self._pass = None
                self._recording = False
                self.stop()
                self.writer.note(stopped=f"{type(error).__name__}: {error}")
                warnings.warn(f"faultline stopped recording: {type(error).__name__}: {error}", stacklevel=2)

        return guarded
