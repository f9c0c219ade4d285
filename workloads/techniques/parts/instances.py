"""Instances of a mini-batch: the loss of each, and batches of some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from simulator.errors import TrainwattError
from workloads.losses import main_output
from workloads.tracing.step import Step
from workloads.workload import Workload

InstanceLoss = Callable[[Any, Any], torch.Tensor]

_WITHOUT_MEAN: Mapping[str, InstanceLoss] = {
    "cross-entropy": lambda outputs, targets: F.cross_entropy(main_output(outputs), targets, reduction="none"),
    "mse": lambda outputs, targets: F.mse_loss(main_output(outputs), targets, reduction="none"),
}


def instance_loss(workload: Workload, technique: str) -> InstanceLoss:
    """Return a function of outputs and targets that returns the loss of each instance, (N,), without a gradient.

    Raises `TrainwattError` where the loss of `workload` has no such form.
    """
    name = workload.meta.get("loss", "")
    if name not in _WITHOUT_MEAN:
        raise TrainwattError(
            f"{technique} with loss {name!r}, which has no form for single instances; "
            f"train with {' or '.join(_WITHOUT_MEAN)}"
        )

    @torch.no_grad()
    def losses(outputs: Any, targets: Any) -> torch.Tensor:
        each = _WITHOUT_MEAN[name](outputs, targets)
        return each if each.dim() == 1 else each.flatten(1).mean(1)

    return losses


def chosen(batch: Any, index: torch.Tensor) -> Any:
    """Return the instances `index` of every tensor in `batch`."""
    return tree_map(lambda x: x.index_select(0, index) if isinstance(x, torch.Tensor) else x, batch)


def refuse_micro_batches(step: Step, technique: str) -> None:
    """Raise `TrainwattError` where a step consists of several micro-batches."""
    if step.accumulate != 1:
        raise TrainwattError(f"{technique} on a step of several micro-batches; apply it to a step with accumulate=1")
