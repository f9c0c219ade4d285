"""A design space: every point over two columns, and the Pareto front of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.explore.grid import short
from analysis.explore.marking import Objective
from analysis.explore.pareto import front
from analysis.pictures.points import numbers, texts
from analysis.pictures.style import (
    COLOURS,
    GREY,
    MARKERS,
    key,
    label_of,
    log_axes,
    picture,
    scaled,
    unit_of,
    with_unit,
)
from analysis.table import shortened
from simulator.errors import TrainwattError

_COLOURED = 7
"""So many values have a colour of their own, those with most points on the front, then of all; others share grey."""


def draw(table: Any, path: str, *, x: Objective, y: Objective, colour: str, log: bool = True) -> None:
    """Write the points of `table` (`read_points`), coloured by the column `colour`, with the front of `x` and `y`.

    Infeasible points are small and grey and on no front. Raises `TrainwattError` for columns that are not there or
    hold no numbers, where no point is feasible, and where the picture cannot be written.
    """
    across, up = numbers(table, x.column), numbers(table, y.column)
    feasible = np.asarray(table["feasible"].to_numpy(zero_copy_only=False), dtype=bool)
    drawn = np.isfinite(across) & np.isfinite(up)
    if log:
        drawn &= (across > 0) & (up > 0)
    shown = drawn & feasible
    if not shown.any():
        raise TrainwattError(f"no feasible point has both {x.column} and {y.column}; choose other columns")
    (x_scale, x_unit), (y_scale, y_unit) = (
        scaled(values[drawn].tolist(), unit_of(o.column)) for values, o in ((across, x), (up, y))
    )
    across, up = across / x_scale, up / y_scale
    with picture(path, height_in=4.2) as figure:
        axes = figure.add_subplot()
        dots = {"rasterized": True, "linewidths": 0}
        lost = drawn & ~feasible
        if lost.any():
            axes.scatter(across[lost], up[lost], s=5, c=GREY, alpha=0.25, label=f"infeasible ({lost.sum():,})", **dots)
        labels = texts(table, colour)
        if colour == "technique":
            shorter = {text: short(text) for text in set(labels)}
            labels = [shorter[text] for text in labels]
        best = np.flatnonzero(shown)[_on_front(across[shown], up[shown], x, y)]
        for label, places, hue, marker in _groups(labels, shown, best):
            axes.scatter(across[places], up[places], s=14, c=hue, marker=marker, alpha=0.75, label=label, **dots)
        best = best[np.lexsort((up[best], across[best]))]
        label = f"front ({len(best):,} of {shown.sum():,})"
        where = "post" if not x.most else "pre"
        axes.step(across[best], up[best], where=where, color="black", linewidth=1, label=label)
        axes.scatter(across[best], up[best], s=26, facecolors="none", edgecolors="black", linewidths=0.9)
        if log:
            log_axes(axes, x=True, y=True)
        axes.set_xlabel(_axis(x, x_unit))
        axes.set_ylabel(_axis(y, y_unit))
        key(figure)


def _axis(objective: Objective, unit: str) -> str:
    return with_unit(label_of(objective.column), unit) + (", more is better" if objective.most else "")


def _on_front(across: Any, up: Any, x: Objective, y: Objective) -> Any:
    return np.flatnonzero(front(np.stack([-across if x.most else across, -up if y.most else up], axis=1)))


def _groups(labels: Sequence[str], shown: Any, best: Any) -> list[tuple[str, Any, str, str]]:
    """Return label, points, colour and mark of each value that has its own colour, and of all others."""
    values = np.array(labels, dtype=object)
    counts, ahead = Counter(values[shown].tolist()), Counter(values[best].tolist())
    ranked = sorted(counts, key=lambda value: (-ahead[value], -counts[value]))
    named = ranked[: _COLOURED if len(counts) > _COLOURED + 1 else len(counts)]
    found = [
        (shortened(value, 27) or "(none)", shown & (values == value), COLOURS[k], MARKERS[k])
        for k, value in enumerate(sorted(named))
    ]
    rest = shown & ~np.isin(values, named)
    if rest.any():
        found.insert(0, (f"{len(counts) - len(named)} others", rest, GREY, "."))
    return found
