"""Where the operands of an op are found in a step: how much was touched since they were last.

With T(i) the bytes that the ops before op i touch, an operand last touched by op j has the reuse distance
T(i) - T(j); a cache of S bytes that keeps what was used last still holds it where distance <= S [Mattson et al.,
"Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970]. A storage that the op allocates lies
in memory that others freed: heaps are taken to grow and shrink at their end, so it lies where the live bytes last
reached as high. Steps follow one another, so what the first op reads was last touched in the step before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.work import Floats, Work

Bools = npt.NDArray[np.bool_]

GRAIN = 16.0
"""Shares are rounded to so many parts, so that ops that look alike share rows of work."""


def placed(work: Work, graph: Graph, core_bytes: float, chip_bytes: float) -> Work:
    """Return the work of a step with `off_core`, `off_chip` and `framework`: ops that look alike share a row only where
    they find their operands in the same places. `work` is that of all ops of `graph`, at its own sizes.

    `core_bytes` and `chip_bytes` are what the caches of one core, and all caches, hold of the step.
    """
    beyond = shares_beyond(graph, work.launches[work.row_of_op] > 0, (core_bytes, chip_bytes))
    beyond = np.round(beyond * GRAIN) / GRAIN
    keys, row_of_op = np.unique(np.column_stack([work.row_of_op, beyond]), axis=0, return_inverse=True)
    rows = keys[:, 0].astype(np.int64)
    found = work.select(rows, row_of_op.reshape(-1).astype(np.int64), work.runs)
    return replace(found, off_core=keys[:, 1], off_chip=keys[:, 2], framework=work.launches[rows])


def shares_beyond(graph: Graph, touching: Bools, sizes: tuple[float, ...]) -> Floats:
    """Return the share of each op's operand bytes whose reuse distance is above each of `sizes`, shape (ops, sizes).

    Only ops that are `touching`, shape (ops,), count; views touch nothing.
    """
    size = storage_bytes(graph).astype(np.float64).tolist()
    operands = [_storages(graph, i) if touching[i] else () for i in range(len(graph.ops))]
    freed: dict[int, list[int]] = defaultdict(list)
    for number, storage in enumerate(graph.storages):
        if storage.died is not None and storage.died >= 0 and storage.born >= 0:
            freed[storage.died].append(number)
    last: dict[int, float] = {}
    heap = _Heap()
    now = 0.0
    found = np.zeros((len(graph.ops), len(sizes)))
    for again in (False, True):
        live = set[int]()
        for i, storages in enumerate(operands):
            distances = []
            for number in storages:
                if graph.storages[number].born == i and number not in live:
                    live.add(number)
                    distances.append((heap.taken(size[number], now), size[number]))
                else:
                    distances.append((now - last.get(number, -np.inf), size[number]))
            total = sum(held for _, held in distances)
            now += total
            for number in storages:
                last[number] = now
            if again and total:
                found[i] = [sum(held for away, held in distances if away > most) / total for most in sizes]
            for number in freed[i]:
                if number in live:
                    heap.given(size[number], now)
        for number in live:
            if graph.storages[number].died is None:
                heap.given(size[number], now)
    return found


def _storages(graph: Graph, op: int) -> tuple[int, ...]:
    """Return the storages that an op reads or writes, each once."""
    called = graph.ops[op]
    return tuple(dict.fromkeys(graph.tensors[t].storage for t in (*called.inputs, *called.outputs, *called.mutates)))


class _Heap:
    """The free end of a heap: what was freed last is taken first."""

    def __init__(self) -> None:
        self.regions: list[tuple[float, float]] = []  # bytes, when last touched; the nearest last

    def given(self, size: float, now: float) -> None:
        self.regions.append((size, now))

    def taken(self, size: float, now: float) -> float:
        """Return the reuse distance of most of the bytes that are taken: infinite where they are new."""
        left, away = size, [(0.0, np.inf)]
        while left > 0 and self.regions:
            held, when = self.regions.pop()
            if held > left:
                self.regions.append((held - left, when))
            away.append((min(held, left), now - when))
            left -= held
        away.append((max(left, 0.0), np.inf))
        return max(away)[1]
