"""Finds the state that a forward changes in a model when it is loaded, and restores it afterwards.

Some models remember: a dynamic rotary embedding its longest row, BigBird that a row was too short
for its blocks and that it reads everything in full from then on. A row's answer would then depend
on the rows before it. Buffers, submodules and plain attributes of all modules and configurations
are compared before and after each probe; what was seen to change is put back before every forward.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

MOST_ELEMENTS = 1 << 22
"""Of a tensor that is compared by value. Chosen: caches of positions are far smaller."""
PLAIN = (bool, int, float, str, bytes, type(None))
# what torch keeps in a module beside its buffers and submodules: weights and hooks, which are ours
NOT_STATE = frozenset({"_parameters", "_buffers", "_modules"})
ABSENT = object()


@dataclass(slots=True)
class _Kept:
    """The saved value of one attribute of a module."""

    where: MutableMapping[str, Any]
    name: str
    value: Any
    copy: Any
    """A copy of a tensor's numbers; None if it is not a tensor."""

    @classmethod
    def of(cls, where: MutableMapping[str, Any], name: str) -> _Kept:
        value = where.get(name, ABSENT)
        return cls(where, name, value, value.clone() if _is_small_tensor(value) else None)

    def is_changed(self) -> bool:
        import torch

        now = self.where.get(self.name, ABSENT)
        if now is not self.value:
            plain = type(now) is type(self.value) and isinstance(now, (*PLAIN, tuple))
            return not (plain and now == self.value)
        return self.copy is not None and not torch.equal(self.value, self.copy)

    def put_back(self) -> None:
        if self.value is ABSENT:
            self.where.pop(self.name, None)
            return
        self.where[self.name] = self.value
        if self.copy is not None:
            self.value.copy_(self.copy)


class ModelState:
    """The state of one model; `settle` after each probe, `put_back` before each forward."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen: dict[tuple[int, str], _Kept] = {}
        self._all = [_Kept.of(where, name) for where, name in _entries(model)]
        self._names = {id(where): set(where) for where in _owners(model)}

    def settle(self) -> None:
        """Record what changed since the model was loaded, and restore it."""
        for kept in self._all:
            if kept.is_changed():
                self._seen[id(kept.where), kept.name] = kept
        for where in _owners(self._model):
            for name in set(where) - self._names.get(id(where), set(where)):
                self._seen[id(where), name] = _Kept(where, name, ABSENT, None)
        self.put_back()

    def put_back(self) -> None:
        """Restore the model's state; costs nothing if no forward was seen to change it."""
        for kept in self._seen.values():
            kept.put_back()

    def forget_rest(self) -> None:
        """Keep only what was seen to change, with its current value: layers may have been replaced."""
        self._all, self._names = [], {}
        self._seen = {at: _Kept.of(kept.where, kept.name) for at, kept in self._seen.items()}

    def __bool__(self) -> bool:
        """Whether a forward changes the model."""
        return bool(self._seen)


def _owners(model: Any) -> Iterator[MutableMapping[str, Any]]:
    configs: dict[int, Any] = {}
    for module in model.modules():
        yield vars(module)
        yield module._buffers
        yield module._modules
        config = vars(module).get("config")
        if hasattr(config, "__dict__"):  # some models keep a dict of that name
            configs[id(config)] = config
    yield from map(vars, configs.values())


def _entries(model: Any) -> Iterator[tuple[MutableMapping[str, Any], str]]:
    for where in _owners(model):
        for name in list(where):
            if name not in NOT_STATE:
                yield where, name


def _is_small_tensor(value: Any) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or isinstance(value, torch.nn.Parameter):
        return False
    if value.is_meta:  # a table that was never filled has no values
        return False
    # laid out for int8 or for oneDNN, it is a weight, and cannot be compared
    if value.layout != torch.strided or value.is_quantized:
        return False
    return bool(value.numel() <= MOST_ELEMENTS)
