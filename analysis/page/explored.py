"""The page of an exploration: its points, or of very many the front, the best and a sample."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from analysis.explore.grid import short
from analysis.explore.pareto import front
from analysis.page.document import Chart, Column, Page, Section, column
from analysis.pictures.points import numbers, read_points
from simulator.errors import TrainwattError

MOST = 50_000
"""Points that a page holds at most, or as many as are on fronts."""

_COMPARED = ("latency_s", "energy_j", "peak_bytes", "epoch_latency_s", "epoch_energy_j")
_SHOWN = (
    "network",
    "technique",
    "device",
    "mode",
    "batch",
    "latency_s",
    "energy_j",
    "peak_bytes",
    "feasible",
    "on_front",
)


def explored_page(path: str, most: int = MOST) -> Page:
    """Return the page of the results at `path` (`read_points`), with about `most` of its points.

    Of more points it has all that are feasible and on the front as marked, or on the front of any two of time, energy
    and memory of a step or an epoch, and of the rest every k-th. A page that leaves points out says so.
    """
    table = read_points(path)
    places = np.arange(len(table)) if len(table) <= most else chosen(table, most)
    notes: tuple[str, ...] = ()
    if len(places) < len(table):
        notes = (
            f"{len(places):,} of {len(table):,} points are on this page: all of the front, the feasible ones that are "
            f"on the front of any two of {', '.join(_COMPARED)}, and an even sample of the others. Behind "
            "a filter, or of other columns, the front drawn is that of the points on this page.",
        )
    columns = tuple(_column(table, name, places) for name in table.column_names)
    there = {found.name for found in columns if not _empty(found)}
    x, y = ("epoch_latency_s", "peak_bytes") if "epoch_latency_s" in there else ("latency_s", "peak_bytes")
    section = Section(
        "Points",
        tuple(found for found in columns if found.name in there),
        (Chart("scatter", x, y, "technique", log=True),),
        shown=tuple(name for name in (*_SHOWN, x) if name in there),
        sort=x,
        front=True,
    )
    feasible = int(_feasible(table).sum())
    facts = [("points", f"{len(table):,}"), ("feasible", f"{feasible:,}")]
    facts += [(f"{name}s", ", ".join(_distinct(table, name))) for name in ("network", "device")]
    return Page("Exploration", (section,), tuple(facts), notes)


def chosen(table: Any, most: int) -> Any:
    """Return which points are kept, in order: those on a front, and evenly of the others up to `most`."""
    feasible = _feasible(table)
    kept = np.zeros(len(table), dtype=bool)
    if "on_front" in table.column_names:
        kept |= np.asarray(table["on_front"].to_numpy(zero_copy_only=False), dtype=bool)
    compared = {name: numbers(table, name) for name in _COMPARED if name in table.column_names}
    for pair in combinations(compared, 2):
        values = np.stack([compared[name] for name in pair], axis=1)
        values[~feasible] = np.nan
        kept |= front(values)
    others = np.flatnonzero(~kept)
    room = max(most - int(kept.sum()), 0)
    if room and len(others):
        kept[others[np.unique(np.linspace(0, len(others) - 1, min(room, len(others))).astype(np.int64))]] = True
    return np.flatnonzero(kept)


def _distinct(table: Any, name: str) -> list[str]:
    return [str(value) for value in table[name].cast("string").unique().to_pylist()]


def _feasible(table: Any) -> Any:
    return np.asarray(table["feasible"].to_numpy(zero_copy_only=False), dtype=bool)


def _column(table: Any, name: str, places: Any) -> Column:
    values = table[name].take(places).to_pylist()
    if name != "technique":
        return column(name, values)
    shorter = {text: _short(text) for text in set(values)}
    return column(name, [shorter[text] for text in values])


def _short(text: str) -> str:
    try:
        return short(text)
    except TrainwattError:
        return text  # of a version that knew other techniques


def _empty(found: Column) -> bool:
    return all(value is None or value == "" for value in found.values)
