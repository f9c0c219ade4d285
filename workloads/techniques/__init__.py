"""Runnable techniques: each makes real training do what the graph transform of the same name describes.

A technique `simulator/techniques/<name>.py` has its twin in `workloads/techniques/<name>.py`, a module that defines
one or both of

    def workload(technique, workload: Workload) -> Workload
        changes what is trained (model, batches, loss) before the optimizer is made over the parameters that
        require gradients

    def step(technique, step: Step) -> Step
        changes how a step runs (whether it runs, what is done between backward and update, its optimizer);
        a new value of a class that derives from `Step`, or the same with another field

and, where data decide about a parameter (a kept share),

    def measured(technique, step: Step) -> technique
        returns the technique with these parameters as they turned out in the steps run so far

All are given the frozen dataclass of the transform, whose fields are the parameters of both twins.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from functools import cache
from types import ModuleType

import torch
from torch import nn

from simulator.errors import TrainwattError
from simulator.techniques import Technique
from workloads.tracing.step import Step
from workloads.workload import Workload


def make_step(
    techniques: Iterable[Technique],
    workload: Workload,
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    accumulate: int = 1,
    autocast: torch.dtype | None = None,
) -> Step:
    """Return the training step of `workload` with `techniques` applied from left to right.

    Raises `TrainwattError` where a technique has no runnable twin or does not apply to the model.
    """
    chosen = tuple(techniques)
    twins = [(technique, _twin(technique)) for technique in chosen]
    for technique, twin in twins:
        if change := getattr(twin, "workload", None):
            workload = change(technique, workload)
    trained = [p for p in workload.model.parameters() if p.requires_grad]
    if not trained:
        raise TrainwattError("nothing is left to train; leave at least one parameter that requires a gradient")
    step = Step(workload, make_optimizer(trained), accumulate, autocast)
    for technique, twin in twins:
        if change := getattr(twin, "step", None):
            step = change(technique, step)
    return step


def measured(techniques: Iterable[Technique], step: Step) -> tuple[Technique, ...]:
    """Return `techniques` with the parameters that the data decide as they turned out while `step` ran."""
    found = []
    for technique in techniques:
        tell = getattr(_twin(technique), "measured", None)
        found.append(tell(technique, step) if tell else technique)
    return tuple(found)


@cache
def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        return None


def _twin(technique: Technique) -> ModuleType:
    found = _module(technique.name.replace("-", "_"))
    if found is None:
        raise TrainwattError(f"technique {technique.name!r} has no runnable form; it exists as a graph transform only")
    return found
