"""Real data in the place of the batches that a workload makes up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from simulator.errors import TrainwattError
from workloads.training.datasets import Dataset
from workloads.workload import Workload


class Feed:
    """Hands the samples it was last given to whoever asks a workload for inputs and targets.

    A technique may convert what a workload's `inputs` and `targets` return (its memory format, say), so real data
    takes the same way. Until it is given some, it holds the training data.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._inputs, self._targets = dataset.train_inputs, dataset.train_targets

    def into(self, workload: Workload) -> Workload:
        """Return `workload` with inputs and targets from here.

        Raises `TrainwattError` where its model takes anything else than one tensor.
        """
        taken = workload.inputs(1)
        if not isinstance(taken, torch.Tensor):
            name = workload.meta.get("network", type(workload.model).__name__)
            raise TrainwattError(f"{name} takes a {type(taken).__name__} of inputs; a dataset gives one tensor")
        return replace(workload, inputs=lambda batch: self._inputs[:batch], targets=lambda batch: self._targets[:batch])

    def give(self, workload: Workload, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[Any, Any]:
        """Return `inputs` and `targets` as `workload`, made by `into` and changed since, hands them to its model."""
        self._inputs, self._targets = inputs, targets
        return workload.inputs(len(inputs)), workload.targets(len(inputs))


def shuffled_batches(samples: int, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield the rows of one mini-batch after the other, for ever: each pass in a new order, its remainder left out.

    The order follows from `seed` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from order[: samples - samples % batch].split(batch)
