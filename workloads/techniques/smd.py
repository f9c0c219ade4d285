"""Stochastic mini-batch dropping, runnable: draws for each presented mini-batch whether it is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from simulator.techniques.smd import StochasticMiniBatchDropping
from workloads.tracing.step import Step


@dataclass(frozen=True)
class DroppingStep(Step):
    """A step that drops its mini-batch with probability `p`, drawn from a random generator of its own.

    With `dropped_step` the optimizer steps on a dropped mini-batch too, with gradients of zero.
    """

    p: float = field(default=0.0, kw_only=True)
    dropped_step: bool = field(default=False, kw_only=True)
    generator: torch.Generator = field(default_factory=torch.Generator, kw_only=True)

    def executes(self) -> bool:
        """Draw whether the mini-batch presented now is trained on."""
        drawn = torch.rand((), generator=self.generator).item()
        return drawn >= self.p and super().executes()

    def run(self, inputs: Any, targets: Any) -> torch.Tensor | None:
        """Run the step and return its loss; None where the mini-batch is dropped."""
        loss = super().run(inputs, targets)
        if loss is None and self.dropped_step:
            self.optimizer.zero_grad(set_to_none=False)
            self.update()
        return loss


def step(technique: StochasticMiniBatchDropping, step: Step) -> Step:
    """Return `step`, run with probability 1 - p; its generator is seeded as PyTorch's own was.

    Twice is once with p = 1 - (1 - p1)(1 - p2). Any other behaviour of `step` stays: the new class derives from its.
    """
    if isinstance(step, DroppingStep):
        p = 1 - (1 - step.p) * (1 - technique.p)
        return replace(step, p=p, dropped_step=step.dropped_step and technique.dropped_step)
    kind = DroppingStep
    if type(step) is not Step:
        kind = dataclass(frozen=True)(type("DroppingStep", (DroppingStep, type(step)), {}))
    same = {f.name: getattr(step, f.name) for f in fields(step)}
    generator = torch.Generator().manual_seed(torch.initial_seed())
    return kind(**same, p=technique.p, dropped_step=technique.dropped_step, generator=generator)
