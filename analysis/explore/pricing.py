"""One graph priced at many batch sizes on many devices, in columns.

    latency = sum over ops of runs * latency, or the end of the queue where a host dispatches
    energy  = sum over ops of runs * energy + waiting power * (latency - sum over ops of runs * latency)

as `simulator.estimate` does for one batch size on one device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.explore.rows import PricedRows
from simulator.cost import Cost, HardwareModel
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import peaks, replay
from simulator.run import presented
from simulator.schedule import timeline
from simulator.work import Floats, Ints, Work, work_of

MEMORY = ("tensors", "kernels", "allocator")
"""What peak memory and the decision whether a step fits go by: live tensors; with what kernels allocate inside ops;
and with what a caching allocator reserves, where the device has one (as `simulator.estimate`)."""

BY_DEVICE = ("latency_s", "energy_j", "peak_bytes", "needed_bytes")
BY_BATCH = ("macs", "flops", "traffic_bytes", "samples", "epoch_steps")


@dataclass(frozen=True)
class Prices:
    """`columns` by name: `BY_DEVICE` of shape (devices, batches), `BY_BATCH` of shape (batches,), not a number where
    there is no such step. `reasons`, one for each batch size, say why there is none; empty where there is one.
    `needed_bytes` is what must fit into the device. `epoch_steps` is what an epoch presents.
    """

    columns: Mapping[str, Floats]
    reasons: tuple[str, ...]

    @classmethod
    def refused(cls, reason: str, devices: int, batches: int) -> Prices:
        """Return the prices of a step that does not exist."""
        return cls(_empty(devices, batches), (reason,) * batches)


def price(
    graph: Graph,
    priced: PricedRows,
    batches: Ints,
    memory: str = "tensors",
    dataset_size: int | None = None,
) -> Prices:
    """Return what steps of `graph` cost at each of `batches` on each of the models of `priced`.

    `memory` is one of `MEMORY`. What is refused (a batch size without a step, an op without a work rule) has a reason
    instead of prices.
    """
    columns = _empty(len(priced.models), len(batches))
    reasons = [""] * len(batches)
    for places in _forms(graph, batches):
        try:
            form = graph.rebatch(int(batches[places[0]]))
            found = _priced(form, priced, batches[places], memory, dataset_size)
        except TrainwattError as error:
            for place in places:
                reasons[place] = str(error)
            continue
        for name, column in found.items():
            columns[name][..., places] = column
    return Prices(columns, tuple(reasons))


def _empty(devices: int, batches: int) -> dict[str, Floats]:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(BY_DEVICE, (devices, batches))
    return {name: np.full(shape, np.nan) for name, shape in {**shapes, **dict.fromkeys(BY_BATCH, (batches,))}.items()}


def _forms(graph: Graph, batches: Ints) -> Iterator[Ints]:
    """Split batch sizes by the form of the step that they have (batch 1 may have its own), as places."""
    fixed = graph.meta.get("fixed_batch")
    if fixed is None and graph.other is None and graph.smallest_batch <= 1:
        yield np.arange(len(batches))
        return
    alone = batches == (graph.sizes.get("batch") if fixed else 1)
    for places in (np.flatnonzero(alone), np.flatnonzero(~alone)):
        if places.size:
            yield places


def _priced(graph: Graph, priced: PricedRows, batches: Ints, memory: str, dataset_size: int | None) -> dict[str, Any]:
    work = work_of(graph, batches=batches.tolist())
    costs = [_total(cost, work) for cost in priced.costs(work, batches)]
    peak, needed = _memory(graph, priced.models, batches, memory)
    samples = batches * int(graph.meta.get("accumulate", 1))
    steps = np.full(len(batches), np.nan)
    if dataset_size is not None:
        steps = np.array([presented(graph, -(-dataset_size // int(of_step))) for of_step in samples], dtype=np.float64)
    return {
        "latency_s": np.stack([latency for latency, _ in costs]),
        "energy_j": np.stack([energy for _, energy in costs]),
        "peak_bytes": peak,
        "needed_bytes": needed,
        "macs": work.total(work.macs),
        "flops": work.total(work.flops),
        "traffic_bytes": work.total(work.traffic_bytes),
        "samples": samples,
        "epoch_steps": steps,
    }


def _total(cost: Cost, work: Work) -> tuple[Floats, Floats]:
    """Return latency and energy of the step at every point."""
    busy = work.total(cost.latency_s)
    energy = work.total(cost.energy_j)
    if cost.dispatch_s is None:
        return busy, energy
    # What takes neither host nor device any time (views) moves nothing in the queue.
    active = np.any(cost.latency_s + cost.dispatch_s, axis=1, keepdims=True)[work.row_of_op, 0]
    latency = timeline(cost, work.row_of_op[active], work.runs[active]).step_s.sum(axis=0)
    return latency, energy + cost.waiting_w * np.maximum(latency - busy, 0.0)


def _memory(
    graph: Graph, models: Sequence[HardwareModel], batches: Ints, memory: str
) -> tuple[Floats | Ints, Floats | Ints]:
    """Return peak and needed bytes, shape (batches,) where all devices are alike, else (devices, batches)."""
    if memory == "tensors":
        peak = peaks(graph, batches)
        return peak, peak
    found = np.zeros((2, len(models), len(batches)), dtype=np.int64)
    for j, batch in enumerate(batches):
        worst = graph.rebatch(int(batch)).worst()
        for i, model in enumerate(models):
            found[:, i, j] = replay(worst, model.workspace_bytes(worst)).peak_bytes
            reserved = getattr(model, "reserved", None) if memory == "allocator" else None
            if reserved is not None:
                found[1, i, j] = reserved(worst).reserved_bytes
    return found[0], found[1]
