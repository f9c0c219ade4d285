"""What is trained: a model, batches of any size for it, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Workload:
    """A model with what one training step on it needs.

    `inputs(batch)` returns what the model is called with: a tensor, a tuple of arguments or a dict of keyword
    arguments. `targets(batch)` returns what the loss compares with (or None). `loss(outputs, targets)` returns a
    scalar tensor. `meta` describes the workload in plain values. `predict(inputs)` returns the logits (N, C, ...)
    that the model is judged by; it is None where those are its main output.
    """

    model: nn.Module
    inputs: Callable[[int], Any]
    targets: Callable[[int], Any]
    loss: Callable[[Any, Any], Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    predict: Callable[[Any], torch.Tensor] | None = None

    def forward(self, inputs: Any) -> Any:
        """Call the model as its inputs ask for."""
        if isinstance(inputs, Mapping):
            return self.model(**inputs)
        if isinstance(inputs, tuple):
            return self.model(*inputs)
        return self.model(inputs)
