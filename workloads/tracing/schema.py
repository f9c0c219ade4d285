"""What is worth knowing of an op's schema: which arguments are values, and which tensors it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

aten = torch.ops.aten

_DROPPED = ("layout", "device", "pin_memory", "generator", "non_blocking")

# Ops that write inputs which their schema does not declare as written: running mean and variance, in training.
_HIDDEN_WRITES = {
    aten.native_batch_norm.default: (3, 4),
    aten.cudnn_batch_norm.default: (3, 4),
    aten.miopen_batch_norm.default: (3, 4),
}
_BATCH_NORM_TRAINING = 5

_VALUES = (int, float, bool, str, type(None))


@dataclass(frozen=True, slots=True)
class Schema:
    """An op's arguments: (position, name, default) of those that are kept as attributes, (position, name) of those
    that it writes, and whether it may change the size of a storage.
    """

    kept: tuple[tuple[int, str, Any], ...]
    written: tuple[tuple[int, str], ...]
    hidden: tuple[int, ...]
    may_resize: bool

    def attributes(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that are no tensors, by name, defaults included; an absent tensor is None."""
        attrs: dict[str, Any] = {}
        given = len(args)
        for position, name, default in self.kept:
            value = args[position] if position < given else kwargs.get(name, default)
            if isinstance(value, _VALUES):
                attrs[name] = value
            elif isinstance(value, list | tuple):
                if not any(isinstance(v, torch.Tensor) for v in value):
                    attrs[name] = tuple([v if isinstance(v, _VALUES) else str(v) for v in value])
            elif not isinstance(value, torch.Tensor):
                attrs[name] = str(value).removeprefix("torch.")
        return attrs

    def writes(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
        """Return the arguments that a call writes."""
        if not self.written and not self.hidden:
            return []
        values = [args[i] if i < len(args) else kwargs.get(name) for i, name in self.written]
        if self.hidden and args[_BATCH_NORM_TRAINING]:
            values += [args[i] for i in self.hidden]
        return tensors_in(values)


@cache
def schema_of(func: Any) -> Schema:
    """Return the schema of an ATen op."""
    arguments = func._schema.arguments
    kept = []
    for position, argument in enumerate(arguments):
        if argument.name not in _DROPPED and str(argument.type) not in ("Tensor", "List[Tensor]"):
            default = argument.default_value if argument.has_default_value() else None
            kept.append((position, argument.name, default))
    written = [(i, a.name) for i, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]
    may_resize = "resize" in func.name() or func._overloadname.endswith("out") or "set_" in func.name()
    return Schema(tuple(kept), tuple(written), _HIDDEN_WRITES.get(func, ()), may_resize)


def tensors_in(values: Sequence[Any]) -> list[torch.Tensor]:
    """Return the tensors among values in order, lists flattened."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend([v for v in value if isinstance(v, torch.Tensor)])
    return found


def results_in(out: Any) -> list[torch.Tensor | None]:
    """Return the results of a call, None for an undefined tensor; anything that is no tensor is left out."""
    if isinstance(out, torch.Tensor):
        return [out]
    found: list[torch.Tensor | None] = []
    if isinstance(out, list | tuple):
        for value in out:
            if value is None or isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, list | tuple):
                found.extend(results_in(value))
    return found
