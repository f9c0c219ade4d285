"""The columns of measurements as Parquet: typed, and small for many rows."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.measurements.row import Row
from simulator.errors import TrainwattError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"
_VERSION_KEY = b"trainwatt measurements"
_WHOLE = ("batch", "repeats")
_NUMBERS = ("value", "spread", "start_s", "end_s")


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file of this name is Parquet."""
    return Path(path).suffix == SUFFIX


def content(rows: Iterable[Row], columns: Sequence[str], version: int) -> bytes:
    """Return the bytes of a file of `rows`, one column for each of theirs; what is not known is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = list(rows)
    schema = pa.schema([(name, _type(name)) for name in columns], metadata={_VERSION_KEY: str(version)})
    table = pa.table({name: [getattr(row, name) for row in held] for name in columns}, schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read(path: str | os.PathLike[str]) -> tuple[str, list[dict[str, Any]], tuple[str, ...]]:
    """Return version, rows by column name, and columns of a file.

    Raises `TrainwattError` for a file that cannot be read, one without a version, and a column of another type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(Path(path).read_bytes()))
    except OSError as error:
        said = error.strerror or "it is no Parquet"
        raise TrainwattError(f"cannot read {str(path)!r} ({said}); give a file of measurements") from None
    except pa.ArrowInvalid as error:
        raise TrainwattError(
            f"{str(path)!r} is no Parquet ({first_line(error)}); give a file of measurements"
        ) from None
    version = (table.schema.metadata or {}).get(_VERSION_KEY)
    if version is None:
        said = _VERSION_KEY.decode()
        raise TrainwattError(f"{str(path)!r} is no file of measurements; its metadata says the version of {said!r}")
    for field in table.schema:
        if field.type != _type(field.name):
            raise TrainwattError(
                f"measurements {str(path)!r}: column {field.name!r} of {field.type}; it is of {_type(field.name)}"
            )
    return version.decode(), table.to_pylist(), tuple(table.column_names)


def _type(name: str) -> pa.DataType:
    import pyarrow as pa

    return pa.int64() if name in _WHOLE else pa.float64() if name in _NUMBERS else pa.string()
