"""Holding a graph transform against a trace of its runnable twin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from simulator.graph import Graph
from simulator.memory import replay, storage_bytes
from simulator.techniques import apply, parse
from simulator.work import work_of
from workloads import trace


@dataclass(frozen=True)
class Sums:
    """What agreement is about. `saved_bytes` are the storages that autograd keeps for backward."""

    macs: float
    flops: float
    saved_bytes: int
    traffic_bytes: float
    peak_bytes: int


def sums(graph: Graph) -> Sums:
    """Return the sums of a graph at its batch size."""
    work = work_of(graph)
    size = storage_bytes(graph)
    saved = {graph.tensors[t].storage for op in graph.ops for t in op.saved}
    born = {i: graph.storages[i].born for i in saved}
    kept = sum(int(size[i]) for i in saved if born[i] >= 0 and graph.ops[born[i]].phase in ("forward", "loss"))
    return Sums(
        work.total(work.macs),
        work.total(work.flops),
        kept,
        work.total(work.traffic_bytes),
        replay(graph).peak_bytes,
    )


@cache
def _plain(network: str, batch: int, options: tuple[tuple[str, Any], ...]) -> Graph:
    return trace(network, batch=batch, **dict(options))


def both(text: str, network: str, *, batch: int = 4, rebatches: bool = True, **options: Any) -> tuple[Graph, Graph]:
    """Return transform(trace(network)) and trace(twin(network)) for techniques written as `text`."""
    transformed = apply(parse(text), _plain(network, batch, tuple(options.items())))
    ran = trace(network, batch=batch, techniques=parse(text), rebatches=rebatches, **options)
    return transformed, ran


def assert_agree(transformed: Graph, ran: Graph, *, share: float = 0.02) -> None:
    """Assert equal MACs, FLOPs and saved bytes, and traffic and peak memory within `share`."""
    a, b = sums(transformed), sums(ran)
    assert a.macs == b.macs
    assert a.flops == b.flops
    assert a.saved_bytes == b.saved_bytes
    assert abs(a.traffic_bytes - b.traffic_bytes) <= share * b.traffic_bytes
    assert abs(a.peak_bytes - b.peak_bytes) <= share * b.peak_bytes


def described(graph: Graph) -> list[tuple[Any, ...]]:
    """Return each op as (kind, phase, input shapes, output shapes, saved shapes), for comparing op by op."""
    bound = graph.concrete()

    def shapes(ids: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple((bound.tensors[t].shape, bound.tensors[t].layout.stride) for t in ids)

    return [(op.kind, op.phase, shapes(op.inputs), shapes(op.outputs), sorted(shapes(op.saved))) for op in bound.ops]
