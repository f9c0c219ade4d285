"""Power logs that are CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from analysis.power.trace import number, refusal
from simulator.errors import TrainwattError


@dataclass(frozen=True)
class Table:
    """The columns of a CSV and its rows, each with its line."""

    kind: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def number(self, row: tuple[int, tuple[str, ...]], column: str) -> float:
        """Return the number in a column. Raises `TrainwattError`, with the line, where it is none."""
        line, cells = row
        return number(self.kind, line, cells[self.columns.index(column)], column)


def header(text: str) -> tuple[str, ...]:
    """Return the columns of a CSV, without blanks around them: those of the first line that is no comment."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            return tuple(name.strip() for name in _cells(line))
    return ()


def table(kind: str, text: str) -> Table:
    """Read a CSV; `#` begins a comment line. Raises `TrainwattError`, with the line, for a row of another length."""
    columns = header(text)
    rows: list[tuple[int, tuple[str, ...]]] = []
    seen = False
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        cells = tuple(cell.strip() for cell in _cells(content))
        if cells == columns:
            if seen:
                raise refusal(kind, line, "the head again", "one log a file")
            seen = True
            continue
        if len(cells) != len(columns):
            raise refusal(kind, line, f"{len(cells)} columns instead of {len(columns)}, torn perhaps")
        rows.append((line, cells))
    if not rows:
        raise TrainwattError(f"no sample in the {kind} log; give a log with at least one")
    return Table(kind, columns, tuple(rows))


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])
