"""How well a model does on test data, without leaving a trace in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from simulator.errors import TrainwattError
from workloads.losses import main_output
from workloads.training.datasets import Dataset
from workloads.training.feed import Feed
from workloads.training.trial import Score
from workloads.workload import Workload

CHUNK = 128
"""Samples of one forward pass."""


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode, and afterwards every module of it back into its own mode.

    Some modules may have been in eval mode before (a frozen batch norm), which `model.train()` would end.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def score(workload: Workload, feed: Feed, dataset: Dataset) -> Score:
    """Return cross-entropy and accuracy of `workload`, whose inputs come from `feed`, on the test data.

    Its outputs are logits (N, C, ...): what `workload.predict` returns, or the model's main output.
    """
    loss, right, answers = 0.0, 0, 0
    with in_eval_mode(workload.model), torch.no_grad():
        for start in range(0, len(dataset.test_inputs), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs, targets = feed.give(workload, dataset.test_inputs[rows], dataset.test_targets[rows])
            logits = _logits(workload, inputs)
            loss += F.cross_entropy(logits, targets, reduction="sum").item()
            right += int((logits.argmax(1) == targets).sum())
            answers += targets.numel()
    return Score(loss / answers, right / answers)


def check_fit(workload: Workload, feed: Feed, dataset: Dataset) -> None:
    """Raise `TrainwattError` where the model's outputs are no logits for the targets of `dataset`."""
    with in_eval_mode(workload.model), torch.no_grad():
        inputs, targets = feed.give(workload, dataset.test_inputs[:2], dataset.test_targets[:2])
        logits = _logits(workload, inputs)
    if logits.dim() >= 2 and logits.shape[1] >= dataset.classes and (len(logits), *logits.shape[2:]) == targets.shape:
        return
    outputs, wanted = ("x".join(map(str, tensor.shape)) for tensor in (logits, targets))
    raise TrainwattError(
        f"the model's outputs are {outputs} for targets of {wanted}; "
        f"dataset {dataset.name!r} needs logits of {dataset.classes} classes for each"
    )


def _logits(workload: Workload, inputs: Any) -> torch.Tensor:
    return main_output(workload.forward(inputs)) if workload.predict is None else workload.predict(inputs)
