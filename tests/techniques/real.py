"""Real steps of runnable techniques on random data."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from simulator.graph import Graph
from simulator.techniques import parse
from workloads.losses import cross_entropy
from workloads.optimizers import optimizer_from
from workloads.techniques import make_step
from workloads.tracing.step import Step
from workloads.workload import Workload


def random_workload(model: nn.Module, shape: tuple[int, ...], classes: int, seed: int = 0) -> Workload:
    """Return a workload whose batches are random and the same at every call."""
    random = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(64, *shape, generator=random), torch.randint(classes, (64,), generator=random)
    return Workload(model, lambda batch: inputs[:batch], lambda batch: targets[:batch], cross_entropy)


def real_step(text: str, workload: Workload, optimizer: str = "sgd{momentum=0.9}") -> Step:
    """Return a step that really runs, with the techniques in `text`."""
    return make_step(parse(text), workload, optimizer_from(optimizer, foreach=False))


def losses(step: Step, steps: int, batch: int = 8) -> list[float]:
    """Run `step` on one batch over and over and return its losses."""
    found = [step.run(step.workload.inputs(batch), step.workload.targets(batch)) for _ in range(steps)]
    return [float(loss) for loss in found if loss is not None]


def convolution_macs(graph: Graph, without: str = "-") -> int:
    """Return N K OH OW C R S summed over the forward convolutions, without those of a module."""
    graph = graph.concrete()
    shapes = [
        (graph.tensors[op.outputs[0]].shape, graph.tensors[op.inputs[1]].shape)
        for op in graph.ops
        if op.kind == "convolution" and not op.layer.startswith(without)
    ]
    return sum(prod(y) * prod(weight[1:]) for y, weight in shapes)
