"""Optimizers by the name people type: `sgd{momentum=0.9,weight_decay=1e-4}`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

import torch
from torch import nn

from simulator.errors import TrainwattError, unknown
from simulator.spec import literal, parse_spec

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}


def optimizer_from(text: str, foreach: bool) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Return a function that makes the optimizer `text` describes for some parameters.

    `foreach` chooses PyTorch's multi-tensor form, its default on CUDA; the per-parameter loop is its default on a
    CPU. Raises `TrainwattError` for an unknown optimizer or parameter.
    """
    name, arguments = parse_spec(text)
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    kind = OPTIMIZERS[name]
    known = [p for p in inspect.signature(kind).parameters if p not in ("self", "params", "foreach", "fused")]
    for key in arguments:
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
    values = {key: literal(value) for key, value in arguments.items()}
    values.setdefault("lr", 0.01)

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        try:
            return kind(list(parameters), foreach=foreach, **values)  # type: ignore[call-arg]
        except (ValueError, TypeError) as error:
            raise TrainwattError(f"optimizer {text!r} cannot be made; {error}") from None

    return make
