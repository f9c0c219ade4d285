"""Gradient accumulation, runnable: the optimizer steps once every so many presented mini-batches."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from simulator.techniques.accumulate import Accumulate, refuse_again
from workloads.tracing.step import Step


@dataclass
class Presented:
    """How many mini-batches were trained on since the last update."""

    count: int = 0


@dataclass(frozen=True)
class AccumulatingStep(Step):
    """A step that adds up the gradients of `accumulate` presented mini-batches before it updates.

    `run` is given one of them; `single` computes its gradients, divided by their number. `backward` runs all
    passes of an update on the same mini-batch, which is what a trace of the step shows.
    """

    single: Step = field(kw_only=True)
    presented: Presented = field(default_factory=Presented, kw_only=True)

    def run(self, inputs: Any, targets: Any) -> torch.Tensor | None:
        """Train on a mini-batch and return its loss; None where it is dropped."""
        if not self.executes():
            return None
        if self.presented.count == 0:
            self.optimizer.zero_grad()
        loss = self.single.backward(inputs, targets)
        self.presented.count += 1
        if self.presented.count == self.accumulate:
            self.update()
            self.presented.count = 0
        return None if loss is None else loss * self.accumulate


def step(technique: Accumulate, step: Step) -> Step:
    """Return `step` with an update once every `technique.steps` mini-batches; any other behaviour stays."""
    if technique.steps == 1:
        return step
    refuse_again(step.accumulate)
    loss = step.workload.loss

    def share_of_loss(outputs: Any, targets: Any) -> Any:
        return loss(outputs, targets) / technique.steps

    kind = AccumulatingStep
    if type(step) is not Step:
        kind = dataclass(frozen=True)(type("AccumulatingStep", (AccumulatingStep, type(step)), {}))
    same = {f.name: getattr(step, f.name) for f in fields(step)} | {"accumulate": technique.steps}
    return kind(**same, single=replace(step, workload=replace(step.workload, loss=share_of_loss)))
