"""Rows of work priced once: most rows of a step are left as they are by a technique, and many devices price them.

A row's price depends on the row alone, so what was priced in one graph holds in every other at the same batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.cost import Cost, HardwareModel
from simulator.work import Floats, Ints, Work

_MOST_ROWS = 4096
"""Rows that are remembered; with 20 devices and 50 batch sizes they take about 80 MB."""

_COLUMNS = ("macs", "flops", "read_bytes", "written_bytes")


@dataclass
class _Known:
    """Rows priced so far, by their content, and what they cost on each model."""

    place: dict[bytes, int] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)


class PricedRows:
    """Prices work on `models`, each distinct row once."""

    def __init__(self, models: Sequence[HardwareModel]) -> None:
        self.models = tuple(models)
        self._known: dict[bytes, _Known] = {}
        self._dtypes: dict[str, int] = {}

    def costs(self, work: Work, batches: Ints) -> list[Cost]:
        """Return what `model.price(work)` is for each model; `work` is evaluated at `batches`.

        Only the columns of latency, energy and dispatch are filled.
        """
        known = self._known.setdefault(batches.tobytes(), _Known())
        keys = self._keys(work)
        if sum(len(k.place) for k in self._known.values()) + len(keys) > _MOST_ROWS:
            self._known = {batches.tobytes(): (known := _Known())}
        fresh = {key: row for row, key in enumerate(keys) if key not in known.place}
        if fresh:
            known.place.update({key: len(known.place) + i for i, key in enumerate(fresh)})
            only = _rows(work, np.array(list(fresh.values()), dtype=np.int64))
            new = [model.price(only) for model in self.models]
            known.costs = [_joined(pair) for pair in zip(known.costs, new, strict=True)] if known.costs else new
        place = np.array([known.place[key] for key in keys], dtype=np.int64)
        return [_taken(cost, place) for cost in known.costs]

    def _keys(self, work: Work) -> list[bytes]:
        """Return the content of each row: all that a model can see of it."""
        names = np.array([self._dtypes.setdefault(name, len(self._dtypes)) for name in work.dtypes], dtype=np.int64)
        of_row = np.column_stack([work.kernel, names[work.dtype], work.part, work.bits, work.launches])
        columns = [getattr(work, name) for name in _COLUMNS] + list(work.nest.values())
        table = np.concatenate([of_row, *columns], axis=1)
        return [row.tobytes() for row in table]


def _rows(work: Work, rows: Ints) -> Work:
    """Return some rows of `work` on their own, each an op that runs once."""
    names = ("kernel", "dtype", "part", "bits", "launches", *_COLUMNS)
    return Work(
        **{name: getattr(work, name)[rows] for name in names},
        dtypes=work.dtypes,
        nest={name: column[rows] for name, column in work.nest.items()},
        row_of_op=np.arange(len(rows)),
        runs=np.ones(len(rows)),
    )


def _joined(costs: Sequence[Cost]) -> Cost:
    """Return the costs of rows one after another."""
    dispatch = [cost.dispatch_s for cost in costs if cost.dispatch_s is not None]
    return _bare(
        np.concatenate([cost.latency_s for cost in costs]),
        np.concatenate([cost.energy_j for cost in costs]),
        np.concatenate(dispatch) if dispatch else None,
        costs[0].waiting_w,
    )


def _taken(cost: Cost, rows: Ints) -> Cost:
    dispatch = None if cost.dispatch_s is None else cost.dispatch_s[rows]
    return _bare(cost.latency_s[rows], cost.energy_j[rows], dispatch, cost.waiting_w)


def _bare(latency: Floats, energy: Floats, dispatch: Floats | None, waiting_w: float) -> Cost:
    return Cost(latency, energy, np.zeros(len(latency), dtype=np.int8), dispatch_s=dispatch, waiting_w=waiting_w)
