"""Online hard example mining, runnable: a pass without gradients finds the instances that a step then trains on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from simulator.errors import TrainwattError
from simulator.graph import Share
from simulator.techniques.ohem import OnlineHardExampleMining
from workloads.techniques.parts.instances import InstanceLoss, chosen, instance_loss, refuse_micro_batches
from workloads.tracing.step import Step


@dataclass(frozen=True)
class MiningStep(Step):
    """A step that trains on the share `keep` of its mini-batch with the largest losses.

    The pass that finds them runs as training does: batch norm sees the whole mini-batch and updates its statistics.
    """

    keep: float = field(default=1.0, kw_only=True)
    losses: InstanceLoss = field(kw_only=True)

    def backward(
        self, inputs: Any, targets: Any, mark: Callable[[str], None] = lambda phase: None
    ) -> torch.Tensor | None:
        """Run the step up to its gradients on the hardest instances and return their mean loss."""
        refuse_micro_batches(self, "ohem")
        mark("forward")
        losses = self._score(inputs, targets, mark)
        hardest = losses.topk(Share("batch", self.keep).size(len(losses)), sorted=False).indices
        del losses
        mark("forward")
        return super().backward(chosen(inputs, hardest), chosen(targets, hardest), mark)

    def _score(self, inputs: Any, targets: Any, mark: Callable[[str], None]) -> torch.Tensor:
        precision = contextlib.nullcontext() if self.autocast is None else torch.autocast("cpu", dtype=self.autocast)
        with torch.no_grad(), precision:
            outputs = self.workload.forward(inputs)
            mark("loss")
            return self.losses(outputs, targets)


def step(technique: OnlineHardExampleMining, step: Step) -> Step:
    """Return `step` on the hardest instances; any other behaviour stays: the new class derives from its.

    Raises `TrainwattError` for `forward=once`, which PyTorch cannot run, and where instances have no losses.
    """
    if technique.forward == "once":
        raise TrainwattError("ohem with forward=once has no runnable form; forward=twice has")
    refuse_micro_batches(step, technique.name)
    kind = MiningStep
    if type(step) is not Step:
        kind = dataclass(frozen=True)(type("MiningStep", (MiningStep, type(step)), {}))
    same = {f.name: getattr(step, f.name) for f in fields(step)}
    return kind(**same, keep=technique.keep, losses=instance_loss(step.workload, technique.name))
