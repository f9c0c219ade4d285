"""Rows of work priced once: most rows of a step are left as they are by a technique, and many devices price them.

A row's price depends on the row alone, so what was priced in one graph holds in every other at the same sizes. The
cost of a step is then a sum over rows of a table: no op is looked at more than once for all devices and batch sizes.

    latency = sum over ops of runs * latency, or the end of the queue where a host dispatches
    energy  = sum over ops of runs * energy + waiting power * (latency - sum over ops of runs * latency)

as `simulator.estimate` does for one batch size on one device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulator.alike import alike, parts
from simulator.cost import HardwareModel
from simulator.estimate import work_in_step
from simulator.graph import Graph
from simulator.memory import worst_sizes
from simulator.schedule import timeline
from simulator.work import Floats, Ints, Work, work_of

_MOST_ROWS = 4096
"""Rows that are remembered, and those of one step more; with 20 devices and 50 batch sizes they take about 90 MB."""

_COLUMNS = ("macs", "flops", "read_bytes", "written_bytes")
_TOTALS = ("macs", "flops", "traffic_bytes")


class _Table:
    """Rows priced so far at some sizes.

    Columns of shape (rows, ...): `totals` (3, points), `latency` and `energy` (devices, points), and for the devices
    that a host dispatches to `dispatch` (such devices, points), for those that tell it `workspace`, in bytes.
    """

    def __init__(self, models: Sequence[HardwareModel]) -> None:
        self.models = models
        self.count = 0
        self.columns: dict[str, Floats] = {}
        self.queued: Ints = np.zeros(0, dtype=np.int64)
        self.waiting_w: Floats = np.zeros(0)
        self.row_of_key: dict[object, int] = {}
        self._row_of_content: dict[bytes, int] = {}
        self._kept: list[object] = []
        self._last: tuple[Graph, Ints] | None = None
        self._dtypes: dict[str, int] = {}

    def rows(self, graph: Graph, sizes: Mapping[str, Any]) -> Ints:
        """Return the row of each op of `graph` at `sizes`, shape (ops,); what is new is priced."""
        if self._last is None or self._last[0] is not graph:
            self._last = graph, self._rows(graph, sizes)
        return self._last[1]

    def _rows(self, graph: Graph, sizes: Mapping[str, Any]) -> Ints:
        distinct = alike(graph)
        fresh = [i for i, key in enumerate(distinct.keys) if key not in self.row_of_key]
        if fresh:
            ops = [distinct.first[i] for i in fresh]
            work = work_of(graph, at=sizes, ops=ops)
            contents = self._contents(work)
            new = {content: row for row, content in enumerate(contents) if content not in self._row_of_content}
            if new:
                self._price(_some(work, np.array(list(new.values()), dtype=np.int64)))
                self._row_of_content.update({content: self.count + i for i, content in enumerate(new)})
                self.count += len(new)
            self.row_of_key.update({distinct.keys[i]: self._row_of_content[contents[j]] for j, i in enumerate(fresh)})
            self._kept += [parts(graph, graph.ops[op]) for op in ops]  # keys hold for as long as these live
        of_distinct = np.array([self.row_of_key[key] for key in distinct.keys], dtype=np.int64)
        return of_distinct[distinct.row_of_op]

    def _contents(self, work: Work) -> list[bytes]:
        """Return the content of each row: all that a model can see of it."""
        names = np.array([self._dtypes.setdefault(name, len(self._dtypes)) for name in work.dtypes], dtype=np.int64)
        of_row = np.column_stack([work.kernel, work.kind, names[work.dtype], work.part, work.bits, work.launches])
        columns = [getattr(work, name) for name in _COLUMNS] + list(work.nest.values())
        table = np.concatenate([of_row, *columns], axis=1)
        return [row.tobytes() for row in table[work.row_of_op]]

    def _price(self, work: Work) -> None:
        costs = [model.price(work) for model in self.models]
        self.queued = np.array([i for i, cost in enumerate(costs) if cost.dispatch_s is not None], dtype=np.int64)
        self.waiting_w = np.array([cost.waiting_w for cost in costs])
        self._append("totals", [getattr(work, name) for name in _TOTALS])
        for name, columns in (
            ("latency", [cost.latency_s for cost in costs]),
            ("energy", [cost.energy_j for cost in costs]),
            ("dispatch", [cost.dispatch_s for cost in costs if cost.dispatch_s is not None]),
            ("workspace", [model.workspace_rows(work) for model in self.models if hasattr(model, "workspace_rows")]),
        ):
            if columns:
                self._append(name, columns)

    def _append(self, name: str, columns: Sequence[Floats]) -> None:
        block = np.stack(columns, axis=1)
        end = self.count + len(block)
        held = self.columns.get(name)
        if held is None or end > len(held):
            grown = np.empty((max(end, 2 * self.count), *block.shape[1:]))
            if held is not None:
                grown[: self.count] = held[: self.count]
            held = self.columns[name] = grown
        held[self.count : end] = block


class PricedRows:
    """Prices steps on `models`, each distinct row of work once.

    Models that tell an op in a step from one alone (`in_step`) price every step whole.
    """

    def __init__(self, models: Sequence[HardwareModel]) -> None:
        self.models = tuple(models)
        self._tables: dict[object, _Table] = {}
        self._alone: Ints | None = None

    def totals(self, graph: Graph, batches: Ints) -> Mapping[str, Floats]:
        """Return latency and energy of a step, shape (devices, batches), and what it does, shape (batches,), by name.

        Raises `TrainwattError` for an op without a work rule.
        """
        by_row = self._by_row(graph)
        sizes = graph.bound({**graph.sizes, "batch": batches})
        table = self._table(graph, sizes)
        row_of_op = table.rows(graph, sizes)
        found = _totals(table, row_of_op, np.array([op.runs for op in graph.ops]), len(batches))
        if len(by_row) == len(self.models):
            return found
        latency, energy = np.empty((2, len(self.models), len(batches)))
        latency[by_row], energy[by_row] = found["latency_s"], found["energy_j"]
        for i in np.setdiff1d(np.arange(len(self.models)), by_row):
            for j, batch in enumerate(batches):
                latency[i, j], energy[i, j] = _whole(graph.rebatch(int(batch)), self.models[i])
        return {**found, "latency_s": latency, "energy_j": energy}

    def workspace(self, graph: Graph, batches: Ints) -> tuple[Ints, Ints]:
        """Return the models whose workspace rows of work tell, and that of each op, in bytes, shape (ops, such models,
        batches), with shares at the most that can occur.
        """
        sizes = worst_sizes(graph, batches)
        table = self._table(graph, sizes)
        rows = table.rows(graph, sizes)
        told = [i for i in self._by_row(graph) if hasattr(self.models[i], "workspace_rows")]
        found = table.columns["workspace"][rows] if told else np.zeros((len(rows), 0, len(batches)))
        return np.array(told, dtype=np.int64), found.astype(np.int64)

    def _table(self, graph: Graph, sizes: Mapping[str, Any]) -> _Table:
        at = tuple((name, np.asarray(sizes[name]).tobytes()) for name in sorted(sizes))
        if at not in self._tables or self._tables[at].count > _MOST_ROWS:
            if sum(table.count for table in self._tables.values()) > _MOST_ROWS:
                self._tables.clear()
            self._tables[at] = _Table([self.models[i] for i in self._by_row(graph)])
        return self._tables[at]

    def _by_row(self, graph: Graph) -> Ints:
        """Return the models for which it makes no difference where in a step a row stands."""
        if self._alone is None:
            work = work_of(graph)
            in_step = [getattr(model, "in_step", None) for model in self.models]
            self._alone = np.flatnonzero([placed is None or placed(work, graph) is work for placed in in_step])
        return self._alone


def _whole(graph: Graph, model: HardwareModel) -> tuple[float, float]:
    """Return latency and energy of a step at its own batch size."""
    work = work_in_step(graph, model)
    cost = model.price(work)
    busy, energy = float(work.total(cost.latency_s)), float(work.total(cost.energy_j))
    if cost.dispatch_s is None:
        return busy, energy
    latency = float(timeline(cost, work.row_of_op, work.runs).step_s.sum())
    return latency, energy + cost.waiting_w * max(latency - busy, 0.0)


def _totals(table: _Table, row_of_op: Ints, runs: Floats, points: int) -> dict[str, Floats]:
    # Summed in the order of the step, whatever was priced before: the same step gives the same bits in every process.
    sorted_rows, first, place = np.unique(row_of_op, return_index=True, return_inverse=True)
    order = np.argsort(first)
    used, weight = sorted_rows[order], np.bincount(place, weights=runs, minlength=len(first))[order]

    def total(name: str, alike: int) -> Floats:
        if not used.size or not alike:
            return np.zeros((alike, points))
        column = table.columns[name][used]
        found: Floats = (weight @ column.reshape(len(used), -1)).reshape(column.shape[1:])
        return found

    busy, energy = total("latency", len(table.models)), total("energy", len(table.models))
    latency = busy
    if table.queued.size and used.size:
        latency = busy.copy()
        latency[table.queued] = _queued(table, row_of_op, runs, busy)
        energy = energy + table.waiting_w[:, None] * np.maximum(latency - busy, 0.0)
    return {"latency_s": latency, "energy_j": energy, **dict(zip(_TOTALS, total("totals", len(_TOTALS)), strict=True))}


def _queued(table: _Table, row_of_op: Ints, runs: Floats, busy: Floats) -> Floats:
    """Return when the queue ends, shape (queued devices, points), as `simulator.schedule.dispatched` says:

    end              = E(last) + max over j of (host(j) - E(j-1))
    host(j) - E(j-1) = sum over i <= j of (dispatch(i) - t(i)) + t(j)      t(i): what the device takes for op i
    """
    # Ops of one row that run equally often are alike, and what takes neither host nor device any time moves nothing.
    pairs, place = np.unique(np.stack([row_of_op.astype(np.float64), runs]), axis=1, return_inverse=True)
    rows, times = pairs[0].astype(np.int64), pairs[1][:, None]
    order = place.reshape(-1)
    ends = np.empty((len(table.queued), busy.shape[1]))
    for n, device in enumerate(table.queued):
        took = table.columns["latency"][rows, device] * times
        dispatched = table.columns["dispatch"][rows, n] * times
        moving = (took + dispatched).any(axis=1)[order]
        ops = order[moving]
        if not ops.size:
            ends[n] = 0.0
            continue
        ahead = np.cumsum((dispatched - took)[ops], axis=0)
        ahead += took[ops]
        ends[n] = busy[device] + ahead.max(axis=0)
    return ends


def _some(work: Work, rows: Ints) -> Work:
    """Return some of the ops of `work`, each a row of its own that runs once."""
    return work.select(work.row_of_op[rows])
