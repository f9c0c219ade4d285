"""The points of an exploration, read back from what `trainwatt explore` left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.errors import TrainwattError, unknown

_NEEDED = ("network", "technique", "device", "batch", "latency_s", "feasible")


def read_points(path: str) -> Any:
    """Return the points (a PyArrow table) of a folder of results, its points.parquet, or its points.csv.

    Raises `TrainwattError` where there is none, and for a table of something else.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv, parquet

    file = Path(path)
    if file.is_dir():
        if not (file / "points.parquet").exists():
            raise TrainwattError(f"no points.parquet in {path!r}; give the folder of a finished exploration")
        file = file / "points.parquet"
    try:
        table = csv.read_csv(file) if file.suffix == ".csv" else parquet.read_table(file)
    except OSError as error:
        raise TrainwattError(f"cannot read {path!r} ({error.strerror or error}); give results of explore") from None
    except pa.ArrowInvalid as error:
        raise TrainwattError(f"{path!r} is no table of points ({str(error).splitlines()[0]}); give results") from None
    for name in _NEEDED:
        if name not in table.column_names:
            raise TrainwattError(f"{path!r} has no column {name!r}; give results of 'trainwatt explore'")
    return table


def kept(table: Any, conditions: Sequence[str]) -> Any:
    """Return the points that meet all of `conditions`, each `column=value`; several of one column are alternatives.

    Raises `TrainwattError` for another form, a column that is not there, and a value that no point has.
    """
    import numpy as np
    import pyarrow as pa

    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise TrainwattError(f"condition {condition!r}; write column=value, such as network=resnet18")
        there = set(texts(table, column))
        if value not in there:
            raise unknown(column, value, there, f"no point has it; there are {len(there)} others")
        wanted.setdefault(column, set()).add(value)
    met = np.ones(len(table), dtype=bool)
    for column, values in wanted.items():
        met &= np.array([text in values for text in texts(table, column)])
    return table.filter(pa.array(met))


def texts(table: Any, column: str) -> list[str]:
    """Return a column as texts. Raises `TrainwattError` where there is no such column."""
    _check(table, column)
    return ["" if value is None else str(value) for value in table[column].to_pylist()]


def numbers(table: Any, column: str) -> Any:
    """Return a column as floats, NaN where nothing is known, shape (points,).

    Raises `TrainwattError` where there is no such column or it holds texts.
    """
    import numpy as np
    import pyarrow as pa

    _check(table, column)
    kind = table.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TrainwattError(f"column {column!r} holds no numbers; give a numeric one, such as latency_s")
    return np.asarray(table[column].cast(pa.float64()).to_numpy(), dtype=np.float64)


def _check(table: Any, column: str) -> None:
    if column not in table.column_names:
        raise unknown("column", column, table.column_names, f"there is {', '.join(table.column_names)}")
