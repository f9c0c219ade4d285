"""What a page shows, as data: sections of typed columns, each with its charts; and its form as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.pictures.style import label_of
from simulator.errors import TrainwattError

Kind = Literal["number", "text", "flag"]

_UNITS = {"s": "s", "j": "J", "bytes": "B", "macs": "MAC", "flops": "FLOP"}
_MORE_IS_BETTER = ("_saved", "batch", "spare_bytes", "samples", "utilisation")


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one kind; None where nothing is known. `unit` is a base unit, empty for none."""

    name: str
    kind: Kind
    values: Sequence[Any]
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """How a section is drawn at first. `scatter`: points at `x`, `y`, coloured by `colour`. `bars`: the sums of `y` by
    `x`, stacked by `colour`. `area`: the columns `stack` over `x`, one upon the other, as steps."""

    kind: Literal["scatter", "bars", "area"]
    x: str
    y: str = ""
    colour: str = ""
    stack: tuple[str, ...] = ()
    log: bool = False


@dataclass(frozen=True)
class Section:
    """A table with its charts. `shown` are the columns that its table begins with; `front` draws the Pareto front of
    the points in whose column `feasible` is true; `diagonal` draws equality and 10 % around it.

    Raises `TrainwattError` on construction where columns have different lengths.
    """

    title: str
    columns: tuple[Column, ...]
    charts: tuple[Chart, ...]
    shown: tuple[str, ...] = ()
    sort: str = ""
    notes: tuple[str, ...] = ()
    front: bool = False
    diagonal: bool = False

    def __post_init__(self) -> None:
        lengths = {len(column.values) for column in self.columns}
        if len(lengths) > 1:
            raise TrainwattError(f"columns of {sorted(lengths)} values in {self.title!r}; give each as many")


@dataclass(frozen=True)
class Page:
    """A page: its title, facts as label and text, and sections."""

    title: str
    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())


def columns_of(rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return rows of plain values as columns, in the order in which their names first appear."""
    names = dict.fromkeys(name for row in rows for name in row)
    return tuple(column(name, [row.get(name) for row in rows]) for name in names)


def column(name: str, values: Sequence[Any]) -> Column:
    """Return plain values as a column of the kind that they are of, with the unit that its name ends with."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return Column(name, "flag", values)
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return Column(name, "number", values, _UNITS.get(name.rpartition("_")[2], ""))
    return Column(name, "text", ["" if value is None else str(value) for value in values])


def form(page: Page) -> dict[str, Any]:
    """Return a page as plain values for JSON: texts by code, numbers with six digits."""
    return {
        "title": page.title,
        "facts": [list(fact) for fact in page.facts],
        "notes": list(page.notes),
        "sections": [_section(section) for section in page.sections],
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "notes": list(section.notes),
        "front": section.front,
        "diagonal": section.diagonal,
        "sort": section.sort,
        "shown": list(section.shown or [column.name for column in section.columns]),
        "charts": [
            {"kind": c.kind, "x": c.x, "y": c.y, "colour": c.colour, "stack": list(c.stack), "log": c.log}
            for c in section.charts
        ],
        "columns": [_column(column) for column in section.columns],
    }


def _column(found: Column) -> dict[str, Any]:
    more = found.name.endswith(_MORE_IS_BETTER)
    label = label_of(found.name) if found.unit else found.name.replace("_", " ")
    shared = {"name": found.name, "label": label, "kind": found.kind, "unit": found.unit, "more": more}
    if found.kind == "number":
        return {**shared, "values": [_rounded(value) for value in found.values]}
    texts = [_text(value) for value in found.values]
    names = list(dict.fromkeys(texts))
    place = {name: code for code, name in enumerate(names)}
    return {**shared, "names": names, "codes": [place[text] for text in texts]}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(f"{value:.6g}")
