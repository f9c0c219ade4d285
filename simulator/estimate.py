"""The cost of a training step on a device."""

from __future__ import annotations

from simulator.cost import HardwareModel
from simulator.graph import Graph
from simulator.memory import replay
from simulator.report import Report
from simulator.schedule import timeline
from simulator.work import Work, work_of

OURS = (
    "peak memory is live tensors and kernel workspace; allocator rounding and fragmentation are not in it",
    "the bytes of an op are those of the op on its own; nothing of it is found in a cache by the next one"
    " unless the device model says so",
    "loading and preparing the data are not part of the step",
)
"""What every estimate takes for granted."""


def estimate(graph: Graph, device: HardwareModel, *, unknown: str = "stop") -> Report:
    """Return what one step of `graph` costs on `device`.

        latency = sum over ops of runs(op) * latency(op), energy likewise; peak = `replay` of the worst mini-batch

    The worst mini-batch is one in which every op runs and every share that varies is at the most that can occur.
    An op without a work rule raises `TrainwattError`; with `unknown="list"` it counts nothing and the
    assumptions name its kind.
    """
    work = work_in_step(graph, device, unknown=unknown)
    cost = device.price(work)
    assumptions = [*device.assumptions, *OURS]
    if work.missing:
        assumptions.insert(0, "counted as nothing, for want of a work rule: " + ", ".join(work.missing))
    if read := graph.meta.get("values_assumed_in"):
        assumptions.insert(0, "values that the step reads were taken as true, 0.0 or 1, in " + ", ".join(read))
    worst = graph.worst()
    return Report(
        graph=graph,
        hardware=device,
        work=work,
        cost=cost,
        timeline=timeline(cost, work.row_of_op, work.runs),
        memory=replay(worst, device.workspace_bytes(worst)),
        assumptions=tuple(assumptions),
    )


def work_in_step(graph: Graph, device: HardwareModel, *, unknown: str = "stop") -> Work:
    """Return the work of a step as `device` prices it: with what an op meets in a step, where the device tells that
    from an op alone (its `in_step`)."""
    work = work_of(graph, unknown=unknown)
    in_step = getattr(device, "in_step", None)
    return work if in_step is None else in_step(work, graph)
