"""The file of measurements: CSV with a version line, or Parquet, as docs/measurements.md describes it.

A path that ends with `.parquet` is Parquet, with the version in its metadata; every other one is CSV.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from analysis.measurements import parquet
from analysis.measurements.row import Row
from simulator.errors import TrainwattError
from simulator.files import write_atomic

VERSION = 2
VERSION_LINE = f"# trainwatt measurements {VERSION}"
COLUMNS = tuple(field.name for field in fields(Row))
NEW_IN_2 = ("start_s", "end_s")
COLUMNS_OF = {1: tuple(name for name in COLUMNS if name not in NEW_IN_2), 2: COLUMNS}
"""The columns of each version that is read; the last one is written."""

_OPTIONAL = ("batch", "spread", *NEW_IN_2)
_WHOLE = ("batch", "repeats")
_NUMBERS = ("value", "spread", *NEW_IN_2)


@dataclass(frozen=True)
class Refused:
    """A line of a CSV, or row of a Parquet file (`unit`), counted from 1, that is no row of measurements, and why."""

    line: int
    reason: str
    unit: str = "line"

    def __str__(self) -> str:
        return f"{self.unit} {self.line}: {self.reason}"


def read(path: str | os.PathLike[str]) -> tuple[Row, ...]:
    """Return the rows of a file. Raises `TrainwattError` if it cannot be read or any line is no valid row."""
    rows, refused = examine(path)
    if refused:
        more = ", ".join(str(r.line) for r in refused[1:6]) + (", ..." if len(refused) > 6 else "")
        others = f" ({refused[0].unit}s refused too: {more})" if more else ""
        raise TrainwattError(f"measurements {str(path)!r}, {refused[0]}{others}")
    return rows


def examine(path: str | os.PathLike[str]) -> tuple[tuple[Row, ...], tuple[Refused, ...]]:
    """Return the valid rows of a file and every other line with its reason.

    Raises `TrainwattError` for a file that cannot be read, another version, and other columns.
    """
    if parquet.is_parquet(path):
        return _examine_parquet(path)
    return _examine(_content(path), str(path))


def write(path: str | os.PathLike[str], rows: Iterable[Row]) -> None:
    """Write a file, whole or not at all. Raises `TrainwattError` where that fails."""
    if parquet.is_parquet(path):
        write_atomic(path, parquet.content(rows, COLUMNS, VERSION))
    else:
        write_atomic(path, f"{VERSION_LINE}\n{','.join(COLUMNS)}\n{_lines(rows)}")


def append(path: str | os.PathLike[str], rows: Sequence[Row]) -> None:
    """Add rows to a file, or make it. All of them are in it afterwards, or none; one process at a time may append.

    A file of an older version becomes one of this. Raises `TrainwattError` where the file holds anything that `read`
    refuses: a row after it would be lost.
    """
    write(path, [*(read(path) if Path(path).exists() else ()), *rows])


def _content(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise TrainwattError(f"cannot read {str(path)!r} ({error.strerror}); give a file of measurements") from None
    except UnicodeDecodeError:
        raise TrainwattError(f"{str(path)!r} is no text in UTF-8; give a file of measurements") from None


def _examine(text: str, name: str) -> tuple[tuple[Row, ...], tuple[Refused, ...]]:
    lines = text.split("\n")
    start, _, version = lines[0].rstrip("\r").rpartition(" ")
    if start != VERSION_LINE.rpartition(" ")[0]:
        raise TrainwattError(f"{name!r} is no file of measurements; its first line is {VERSION_LINE!r}")
    columns = _columns_of(version, name)
    head = lines[1].rstrip("\r") if len(lines) > 1 else ""
    if head != ",".join(columns):
        raise TrainwattError(f"measurements {name!r}, line 2: columns {head!r}; they are {','.join(columns)}")
    rows, refused = [], []
    torn = len(lines) if lines[-1] else None  # a whole file ends with a line break
    for number, line in enumerate(lines[2:], start=3):
        if number == len(lines) and not line:
            continue
        try:
            if number == torn:
                raise TrainwattError("torn, as no line break ends it; complete or remove it")
            rows.append(_row(line.removesuffix("\r"), columns))
        except TrainwattError as error:
            refused.append(Refused(number, str(error)))
    return tuple(rows), tuple(refused)


def _columns_of(version: str, name: str) -> tuple[str, ...]:
    known = {str(number): columns for number, columns in COLUMNS_OF.items()}
    if version not in known:
        raise TrainwattError(
            f"measurements {name!r} of version {version!r}; this trainwatt reads version {' and '.join(known)}"
        )
    return known[version]


def _examine_parquet(path: str | os.PathLike[str]) -> tuple[tuple[Row, ...], tuple[Refused, ...]]:
    version, held, columns = parquet.read(path)
    expected = _columns_of(version, str(path))
    if columns != expected:
        raise TrainwattError(
            f"measurements {str(path)!r}: columns {', '.join(columns)}; they are {', '.join(expected)}"
        )
    rows, refused = [], []
    for number, values in enumerate(held, start=1):
        try:
            missing = [name for name, value in values.items() if value is None and name not in _OPTIONAL]
            if missing:
                raise TrainwattError(f"no {missing[0]}; every row has one")
            rows.append(Row(**values))
        except TrainwattError as error:
            refused.append(Refused(number, str(error), "row"))
    return tuple(rows), tuple(refused)


def _row(line: str, columns: tuple[str, ...]) -> Row:
    if not line:
        raise TrainwattError("empty; every line is a row")
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise TrainwattError(f"no CSV ({error}); quote text that has commas or quotes in it") from None
    if len(cells) != len(columns):
        raise TrainwattError(f"{len(cells)} columns; there are {len(columns)}")
    named = dict(zip(columns, cells, strict=True))
    return Row(**{name: _cell(name, text) for name, text in named.items()})  # type: ignore[arg-type]


def _cell(name: str, text: str) -> str | int | float | None:
    if name in _OPTIONAL and not text:
        return None
    if name not in _WHOLE and name not in _NUMBERS:
        return text
    try:
        return int(text) if name in _WHOLE else float(text)
    except ValueError:
        raise TrainwattError(f"{name} {text!r}; it is a {'whole ' if name in _WHOLE else ''}number") from None


def _lines(rows: Iterable[Row]) -> str:
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    for row in rows:
        values = (getattr(row, column) for column in COLUMNS)
        writer.writerow(["" if v is None else repr(v) if isinstance(v, float) else v for v in values])
    return held.getvalue()
