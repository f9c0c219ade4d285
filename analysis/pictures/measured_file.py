"""Pairs of measured and predicted values from a CSV table, as `analysis.pictures.predicted_measured` draws them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.pictures.predicted_measured import Point
from simulator.errors import TrainwattError, unknown

NEEDED = ("measured", "predicted")
GROUPS = ("group", "network", "device", "what")
"""Columns whose values are told apart by colour, the first of those that there are."""

_SYMBOLS = {"byte": "B", "1": ""}
_NO_LABEL = {*NEEDED, "low", "high", "spread", "error", "quantity", "unit"}
_FORM = "give a CSV table with the columns measured and predicted"


@dataclass(frozen=True)
class Pairs:
    """Points of one `quantity` in the base unit `unit`."""

    points: tuple[Point, ...]
    quantity: str
    unit: str


def read_pairs(path: str, *, group: str | None = None, quantity: str | None = None, unit: str | None = None) -> Pairs:
    """Return the rows of a CSV table as points: columns `measured` and `predicted`, `low` and `high` if there are any.

    `group` names the column that tells groups apart (by default the first of `GROUPS` that there is); what else is text
    becomes the label. Where there is a column `quantity`, only rows of the one named `quantity` are taken, and a column
    `unit` has their unit; elsewhere both are as given (a step time in s by default). Raises `TrainwattError` for a file
    that cannot be read, several quantities of which none is chosen, and a value that is no number above 0.
    """
    rows = read_rows(path)
    columns = list(rows[0])
    for name in NEEDED:
        if name not in columns:
            raise TrainwattError(f"{path!r} has no column {name!r}; {_FORM}")
    if group is not None and group not in columns:
        raise unknown("column", group, columns)
    if "quantity" in columns:
        there = dict.fromkeys(row["quantity"] for row in rows)
        if quantity is None and len(there) > 1:
            raise TrainwattError(f"{path!r} has several quantities; choose one: {', '.join(map(repr, there))}")
        quantity = quantity or next(iter(there))
        if quantity not in there:
            raise unknown("quantity", quantity, there)
        rows = [row for row in rows if row["quantity"] == quantity]
    if unit is None and "unit" in columns:
        unit = _SYMBOLS.get(rows[0]["unit"], rows[0]["unit"])
    by = group or next((name for name in GROUPS if name in columns), None)
    points = tuple(_point(row, by, number, path) for number, row in enumerate(rows, start=1))
    return Pairs(points, quantity or "step time", "s" if unit is None else unit)


def read_rows(path: str) -> list[dict[str, str]]:
    """Return the rows of a CSV table by column. Raises `TrainwattError` where it cannot be read or has no rows."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise TrainwattError(f"cannot read {path!r} ({error.strerror}); {_FORM}") from None
    except UnicodeDecodeError:
        raise TrainwattError(f"{path!r} is no text in UTF-8; {_FORM}") from None
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    try:
        rows = list(csv.DictReader(lines, strict=True))
    except csv.Error as error:
        raise TrainwattError(f"{path!r} is no CSV ({error}); {_FORM}") from None
    if not rows:
        raise TrainwattError(f"{path!r} has no rows; {_FORM}")
    if any(None in row or None in row.values() for row in rows):
        raise TrainwattError(f"{path!r} has rows of other lengths than its first; {_FORM}")
    return rows


def _point(row: Mapping[str, str], by: str | None, place: int, path: str) -> Point:
    def number(name: str) -> float | None:
        if not row.get(name):
            return None
        try:
            return float(row[name])
        except ValueError:
            raise TrainwattError(f"{path!r}, row {place}: {name} {row[name]!r}; it is a number above 0") from None

    measured, predicted = number("measured"), number("predicted")
    if measured is None or predicted is None:
        raise TrainwattError(f"{path!r}, row {place}: no measured or no predicted value; {_FORM}")
    label = " ".join(value for name, value in row.items() if value and name not in _NO_LABEL and name != by)
    try:
        return Point(
            row[by] if by else "all", label or f"row {place}", measured, predicted, number("low"), number("high")
        )
    except TrainwattError as error:
        raise TrainwattError(f"{path!r}, row {place}: {error}") from None
