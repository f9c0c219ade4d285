"""One graph priced at many batch sizes on many devices, in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.explore.rows import PricedRows
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import held_bytes, peaks
from simulator.run import presented
from simulator.work import Floats, Ints

MEMORY = ("tensors", "kernels", "allocator")
"""What peak memory and the decision whether a step fits go by: live tensors; with what kernels allocate inside ops;
and with what a caching allocator reserves, where the device has one (as `simulator.estimate`)."""

BY_DEVICE = ("latency_s", "energy_j", "peak_bytes", "needed_bytes")
BY_BATCH = ("macs", "flops", "traffic_bytes", "samples", "scheduled_steps", "stretch", "epoch_steps")


@dataclass(frozen=True)
class Prices:
    """`columns` by name: `BY_DEVICE` of shape (devices, batches), `BY_BATCH` of shape (batches,), not a number where
    there is no such step. `reasons`, one for each batch size, say why there is none; empty where there is one.
    `needed_bytes` is what must fit into the device. `epoch_steps` is what an epoch presents: `scheduled_steps`, times
    `stretch`.
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
    totals = priced.totals(graph, batches)
    peak, needed = _memory(graph, priced, batches, memory)
    samples = batches * int(graph.meta.get("accumulate", 1))
    scheduled = steps = np.full(len(batches), np.nan)
    if dataset_size is not None:
        scheduled = -(-dataset_size // samples)
        steps = np.array([presented(graph, int(count)) for count in scheduled], dtype=np.float64)
    return {
        **totals,
        "peak_bytes": peak,
        "needed_bytes": needed,
        "samples": samples,
        "scheduled_steps": scheduled,
        "stretch": np.full(len(batches), float(graph.meta.get("stretch", 1.0))),
        "epoch_steps": steps,
    }


def _memory(graph: Graph, priced: PricedRows, batches: Ints, memory: str) -> tuple[Floats | Ints, Floats | Ints]:
    """Return peak and needed bytes, shape (batches,) where all devices are alike, else (devices, batches)."""
    if memory == "tensors":
        peak = peaks(graph, batches)
        return peak, peak
    found = _with_workspace(graph, priced, batches)
    if memory == "kernels":
        return found, found
    needed = found.copy()
    for i, model in enumerate(priced.models):
        reserved = getattr(model, "reserved", None)
        for j, batch in enumerate(batches):
            if reserved is not None and (taken := reserved(graph.rebatch(int(batch)).worst())) is not None:
                needed[i, j] = taken.reserved_bytes
    return found, needed


def _with_workspace(graph: Graph, priced: PricedRows, batches: Ints) -> Ints:
    """Return the peak with what kernels allocate inside ops, shape (devices, batches)."""
    held = held_bytes(graph, batches)
    if not len(held):
        return np.tile(peaks(graph, batches), (len(priced.models), 1))
    found = np.tile(held.max(axis=0), (len(priced.models), 1))
    told, workspace = priced.workspace(graph, batches)
    for place, model in enumerate(told):
        found[model] = (held + workspace[:, place]).max(axis=0)
    ends = [graph.rebatch(int(batch)).worst() for batch in (batches.min(), batches.max())]
    for i in np.setdiff1d(np.arange(len(priced.models)), told):
        model = priced.models[i]
        # A library whose kernels take nothing at the smallest and at the largest batch takes nothing at all.
        if any(model.workspace_bytes(end).any() for end in ends):
            inside = [model.workspace_bytes(graph.rebatch(int(batch)).worst()) for batch in batches]
            found[i] = (held + np.stack(inside, axis=1)).max(axis=0)
    return found
