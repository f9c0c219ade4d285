"""Measurements as one table: rows of work that look alike once, and which of them each measured point runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from analysis.calibration.measured import Measured
from hwmodels.corrected.model import corrected
from simulator.cost import Cost
from simulator.schedule import dispatched
from simulator.work import NOT_BY_ROW, Floats, Ints, Work, stack


@dataclass(frozen=True)
class Observed:
    """`work` holds every distinct row once, columns of shape (rows,). Point i runs `row[start[i]:start[i + 1]]`, in
    this order, `runs` times each, and took `seconds[i]`. `network` holds codes of what is held out together, `graph` of
    what is one graph at several sizes; `is_op` tells points of a single op."""

    work: Work
    row: Ints
    runs: Floats
    start: Ints
    seconds: Floats
    network: Ints
    graph: Ints
    networks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def is_op(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.diff(self.start) == 1

    def select(self, points: Ints) -> Observed:
        """Return these of the points, over the same rows."""
        lengths = np.diff(self.start)[points]
        places = np.concatenate([np.arange(self.start[p], self.start[p + 1]) for p in points] or [np.zeros(0, int)])
        return replace(
            self,
            row=self.row[places],
            runs=self.runs[places],
            start=np.concatenate([[0], np.cumsum(lengths)]),
            seconds=self.seconds[points],
            network=self.network[points],
            graph=self.graph[points],
        )

    def steps(self, cost: Cost, beside: Floats | float = 0.0) -> tuple[Floats, csr_array]:
        """Return the time of every point, shape (points,), and how much of it each row accounts for, as seconds of a
        sparse array of shape (points, rows): the derivative by the logarithm of the row's own time, less what is
        `beside` the op.

        Where a host dispatches ops, those before the last one that the device waited for count nothing.
        """
        points, rows = len(self), len(self.work.kernel)
        latency = cost.latency_s[self.row] * self.runs
        if cost.dispatch_s is not None:
            time = np.empty(points)
            host = cost.dispatch_s[self.row] * self.runs
            for i in range(points):
                of = slice(self.start[i], self.start[i + 1])
                placed = dispatched(latency[of], host[of])
                time[i] = placed.start_s[-1] + placed.duration_s[-1]
                waits = np.flatnonzero(placed.start_s <= placed.host_s * (1 + 1e-12))  # type: ignore[operator]
                latency[of][: waits[-1] if len(waits) else 0] = 0.0
            return time, csr_array((latency, self.row, self.start), shape=(points, rows))
        time = np.add.reduceat(latency, self.start[:-1])
        own = (cost.latency_s - beside)[self.row] * self.runs
        return time, csr_array((own, self.row, self.start), shape=(points, rows))

    def seconds_of(self, cost: Cost, log_factor: Floats, beside: Floats | float = 0.0) -> tuple[Floats, csr_array]:
        """Return `steps` of a cost with corrected times."""
        return self.steps(corrected(cost, np.exp(log_factor), beside), beside)


def observe(measured: Sequence[Measured]) -> Observed:
    """Return measurements as one table, points in the order in which they are given."""
    works, seconds, keys, rows, runs, lengths = [], [], [], [], [], []
    tables: dict[tuple[int, ...], int] = {}  # a table that several share is stacked once
    before = 0
    for one in measured:
        points = one.seconds.size
        table = tuple(id(column) for column in (one.work.macs, one.work.read_bytes, one.work.off_core))
        if table not in tables:
            flat = _flat(one.work, points)
            tables[table] = before
            works.append(replace(flat, row_of_op=flat.row_of_op[:0], runs=flat.runs[:0]))
            before += len(flat.kernel)
        for point in range(points):
            rows.append(tables[table] + one.work.row_of_op * points + point)
            runs.append(one.work.runs)
            lengths.append(len(one.work.runs))
        seconds.append(one.seconds.reshape(-1))
        keys += [(one.network, one.variant)] * points
    whole = stack(works)
    first, of = _distinct(whole)
    graphs = list(dict.fromkeys(keys))
    networks = tuple(dict.fromkeys(network for network, _ in keys))
    return Observed(
        work=whole.select(first),
        row=of[np.concatenate(rows)],
        runs=np.concatenate(runs),
        start=np.concatenate([[0], np.cumsum(lengths)]),
        seconds=np.concatenate(seconds),
        network=np.array([networks.index(network) for network, _ in keys], dtype=np.int64),
        graph=np.array([graphs.index(key) for key in keys], dtype=np.int64),
        networks=networks,
    )


def _flat(work: Work, points: int) -> Work:
    """Return work with a row for each row and point."""
    if work.macs.ndim == 1:
        return work
    columns = {
        name: column.reshape(-1)
        if column.shape[1:] == (points,) and name != "bits"
        else np.repeat(column, points, axis=0)
        for name, column in _columns(work).items()
    }
    return replace(work, **columns, nest={name: column.reshape(-1) for name, column in work.nest.items()})


def _columns(work: Work) -> dict[str, Any]:
    """Return what a row of work says of its own, but for the loop nest."""
    return {f.name: getattr(work, f.name) for f in fields(work) if f.name not in NOT_BY_ROW}


def _distinct(work: Work) -> tuple[Ints, Ints]:
    """Return the first row of each kind of row, and of which kind each row is."""
    table = np.column_stack([*_columns(work).values(), *work.nest.values()]).astype(np.float64)
    _, first, of = np.unique(table, axis=0, return_index=True, return_inverse=True)
    return first, of.reshape(-1)
