"""Losses by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from simulator.errors import unknown
from workloads.callables import import_callable


def main_output(outputs: Any) -> torch.Tensor:
    """Return the main output of a model: the tensor itself, `out` or `logits` of a dict, else the first one."""
    if isinstance(outputs, Mapping):
        for key in ("out", "logits"):
            if key in outputs:
                return main_output(outputs[key])
        outputs = tuple(outputs.values())
    if isinstance(outputs, list | tuple):
        return main_output(outputs[0])
    return outputs  # type: ignore[no-any-return]


def cross_entropy(outputs: Any, targets: Any) -> torch.Tensor:
    """Return the mean cross-entropy of logits (N, C, ...) and class numbers (N, ...), per pixel for images."""
    return F.cross_entropy(main_output(outputs), targets)


def mean_squared_error(outputs: Any, targets: Any) -> torch.Tensor:
    """Return the mean squared difference of outputs and targets of the same shape."""
    return F.mse_loss(main_output(outputs), targets)


def own_loss(outputs: Any, targets: Any) -> torch.Tensor:
    """Return the loss that a model computes itself, as Hugging Face models do when they are given labels."""
    return outputs["loss"] if isinstance(outputs, Mapping) else outputs.loss  # type: ignore[no-any-return]


LOSSES: Mapping[str, Callable[[Any, Any], torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "mse": mean_squared_error,
    "own": own_loss,
}


def loss_from(loss: str | Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the loss function of a name, of `package.module:callable`, or itself."""
    if callable(loss):
        return loss
    if ":" in loss:
        return import_callable(loss)
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES, "or give package.module:callable")
    return LOSSES[loss]


def loss_name(loss: str | Callable[[Any, Any], Any]) -> str:
    """Return what to call a loss."""
    return loss if isinstance(loss, str) else getattr(loss, "__qualname__", type(loss).__name__)
