"""What the user knows of points, such as measured accuracy: columns of a CSV or Parquet file, joined to the points.

A row of the file holds for every point that has its values in the key columns, those that are inputs of points
(`network`, `technique`, `batch`, ...); the others are numbers and become columns of the results, which objectives may
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.explore import grid
from simulator.errors import TrainwattError
from simulator.work import Floats, Ints

KEYS = ("network", "optimizer", "train", "batch_norm", "precision", "technique", "device", "mode", "design", "batch")
"""The inputs of a point, which a file may have columns of."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file at `path` with the numeric `columns`."""

    path: str
    columns: tuple[str, ...]


def known_of(value: Any, folder: Path) -> Known:
    """Return the file that the key `accuracy` of a space names, relative to its `folder`.

    Raises `TrainwattError` where it cannot be read, has no key or no other column, or says two things of one point.
    """
    if not isinstance(value, str) or not value.endswith((".csv", ".parquet")):
        raise TrainwattError(f"accuracy = {value!r}; it is a .csv or .parquet file")
    path = str((folder / value).resolve())
    known = Known(path, tuple(name for name in _read(path) if name not in KEYS))
    _indexed(known)
    return known


def joined(
    known: Known, texts: Mapping[str, str], devices: Mapping[str, list[str]], batches: Ints
) -> Mapping[str, Floats]:
    """Return the known columns of a chunk, shape (devices, batches), not a number where nothing is known.

    `texts` are the inputs that all of its points share; `devices` has those of each device by name.
    """
    table = _indexed(known)
    shape = (len(next(iter(devices.values()))), len(batches))
    found = np.full((len(known.columns), *shape), np.nan)
    for i in range(shape[0]):
        said = {**texts, **{name: column[i] for name, column in devices.items()}}
        rows = table.at(said)
        for batch, values in rows.items():
            found[:, i, slice(None) if batch is None else np.flatnonzero(batches == batch)] = values[:, None]
    return dict(zip(known.columns, found, strict=True))


@dataclass(frozen=True, slots=True)
class _Index:
    """Values of the known columns by key columns other than the batch, and by batch (None: any)."""

    keys: tuple[str, ...]
    rows: Mapping[tuple[str, ...], Mapping[int | None, Floats]]

    def at(self, said: Mapping[str, str]) -> Mapping[int | None, Floats]:
        return self.rows.get(tuple([said[key] for key in self.keys]), {})


@cache
def _indexed(known: Known) -> _Index:
    read = _read(known.path)
    keys = tuple(name for name in read if name in KEYS and name != "batch")
    rows: dict[tuple[str, ...], dict[int | None, Floats]] = {}
    for i in range(len(next(iter(read.values())))):
        place = tuple([_text(key, read[key][i]) for key in keys])
        batch = int(read["batch"][i]) if "batch" in read else None
        of_batch = rows.setdefault(place, {})
        if batch in of_batch:
            raise TrainwattError(f"{known.path} says two things of {', '.join(place)}; keep one row")
        values = [np.nan if read[name][i] is None else read[name][i] for name in known.columns]
        of_batch[batch] = np.array(values, dtype=np.float64)
    return _Index(keys, rows)


def _text(key: str, value: Any) -> str:
    """Return a value as points have it: techniques with all their parameters."""
    if key != "technique":
        return "" if value is None else str(value)
    (text,) = grid.techniques(str(value))
    return text


def _read(path: str) -> dict[str, list[Any]]:
    """Return the columns of a file by name."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv
    from pyarrow import parquet as pq

    try:
        table = pq.read_table(path) if path.endswith(".parquet") else csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainwattError(
            f"cannot read {path!r} ({str(error).splitlines()[0]}); give a table with a header"
        ) from None
    numbers = [f.name for f in table.schema if f.name not in KEYS]
    wrong = [f.name for f in table.schema if f.name in numbers and not _numeric(f.type)]
    if wrong:
        raise TrainwattError(f"column {wrong[0]!r} of {path} is no number; inputs of points are {', '.join(KEYS)}")
    if not numbers or len(numbers) == len(table.schema):
        raise TrainwattError(f"{path} has columns {', '.join(table.column_names)}; give inputs of points and numbers")
    return {str(name): column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}


def _numeric(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
