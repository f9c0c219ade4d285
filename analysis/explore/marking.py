"""Which points are on the front: objectives as text, read from the stored columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore.pareto import Flags, fronts
from analysis.explore.store import Store
from analysis.explore.table import NUMBERS, TEXTS
from simulator.errors import unknown

_MORE = "max:"


@dataclass(frozen=True, slots=True)
class Objective:
    """A numeric column of which less is better, or more where `most`."""

    column: str
    most: bool = False

    def __str__(self) -> str:
        return (_MORE if self.most else "") + self.column


def objectives(texts: Sequence[str], known: Sequence[str] = ()) -> tuple[Objective, ...]:
    """Read objectives such as `latency_s` or `max:batch`; `known` are numeric columns of the user's own.

    Raises `TrainwattError` for a column that is no number.
    """
    found, columns = [], (*NUMBERS, *known)
    for text in texts:
        most, column = text.startswith(_MORE), text.removeprefix(_MORE)
        if column not in columns:
            raise unknown("numeric column", column, columns, f"there is {', '.join(columns)}")
        found.append(Objective(column, most))
    return tuple(found)


def groups(texts: Sequence[str]) -> tuple[str, ...]:
    """Check columns within which fronts are looked for. Raises `TrainwattError` for one that is no input."""
    inputs = (*TEXTS, "batch")
    for text in texts:
        if text not in inputs:
            raise unknown("input column", text, inputs, f"there is {', '.join(inputs)}")
    return tuple(texts)


def marks(store: Store, wanted: Sequence[Objective], within: Sequence[str]) -> Flags:
    """Return which of the stored points, in order, are on the front of `wanted` (each of its group's).

    Infeasible points are on none, and stand in nobody's way.
    """
    columns = [o.column for o in wanted]
    values: list[npt.NDArray[np.float64]] = []
    labels: list[list[npt.NDArray[np.int64]]] = []
    numbers: dict[tuple[str, object], int] = {}
    for table in store.tables([*dict.fromkeys([*columns, *within]), "feasible"]):
        block = np.stack(
            [table.column(o.column).to_numpy().astype(np.float64) * (-1.0 if o.most else 1.0) for o in wanted], axis=1
        )
        block[~table.column("feasible").to_numpy()] = np.nan
        values.append(block)
        labels.append([_coded(table, name, numbers) for name in within])
    group = np.zeros(sum(map(len, values)), dtype=np.int64)
    if within and len(group):
        keys = np.stack([np.concatenate(parts) for parts in zip(*labels, strict=True)], axis=1)
        group = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    return fronts(np.concatenate(values), group)


def _coded(table: pa.Table, name: str, numbers: dict[tuple[str, object], int]) -> npt.NDArray[np.int64]:
    """Return a column as numbers that mean the same in every table."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    if not pa.types.is_dictionary(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
    codes = [numbers.setdefault((name, text), len(numbers)) for text in column.dictionary.to_pylist()]
    indices: npt.NDArray[np.int64] = column.indices.to_numpy().astype(np.int64)
    return np.array(codes, dtype=np.int64)[indices]
