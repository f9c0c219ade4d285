"""Predicted against measured: a point for each pair on logarithmic axes, with the band of 10 % around equality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

from analysis.pictures.style import COLOURS, GREY, MARKERS, key, log_axes, picture, scaled, with_unit
from analysis.table import shortened
from simulator.errors import TrainwattError

BAND = 0.10
"""Half the width of the band: predictions within it are at most a tenth off."""

_NAMED = 3
"""So many points have their labels beside them, those that are furthest off and outside the band."""

_LETTER = 0.017
"""Width of a letter of a label as a share of the axis, about."""

_APART = 0.08
"""Labels are at least this share of the axis apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured and a predicted value in one unit; `low` to `high` is the interval predicted, where there is one.

    `group` gives the colour and `label` names the point. Raises `TrainwattError` on construction for a value that is
    no finite number above 0, which has no place on a logarithmic axis.
    """

    group: str
    label: str
    measured: float
    predicted: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("measured", "predicted", "low", "high"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise TrainwattError(f"{name} {value:g} of {self.label!r}; it is a finite number above 0")

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


def draw(points: Sequence[Point], path: str | PathLike[str], *, quantity: str, unit: str) -> None:
    """Write the picture of `points`, whose values are `quantity` in the base unit `unit` (such as `s`, `J`, `B`).

    Raises `TrainwattError` where there is no point, for a suffix that is no kind of picture (.png, .svg, .pdf), and
    where the file cannot be written.
    """
    if not points:
        raise TrainwattError("no points to draw; give at least one pair of a measured and a predicted value")
    every = [v for p in points for v in (p.measured, p.predicted, p.low, p.high) if v is not None]
    scale, shown = scaled(every, unit)
    ends = np.array([min(every) / scale / 1.4, max(every) / scale * 1.4])
    groups = list(dict.fromkeys(p.group for p in points))
    with picture(fspath(path), height_in=4.6 + 0.16 * (len(groups) + 1)) as figure:
        axes = figure.add_subplot()
        axes.fill_between(ends, ends * (1 - BAND), ends * (1 + BAND), color=GREY, alpha=0.22, lw=0, label="±10 %")
        axes.plot(ends, ends, color=GREY, linewidth=0.9)
        for number, group in enumerate(groups):
            _group(axes, [p for p in points if p.group == group], number, scale)
        _name_furthest(axes, points, scale)
        axes.set(xlim=ends, ylim=ends, box_aspect=1)
        log_axes(axes, x=True, y=True)
        axes.set_xlabel(with_unit(f"measured {quantity}", shown))
        axes.set_ylabel(with_unit(f"predicted {quantity}", shown))
        key(figure, _said(points))


def mean_error(points: Sequence[Point]) -> float:
    """Return the mean of |predicted / measured - 1|."""
    return float(np.mean([abs(p.error) for p in points]))


def _group(axes: Any, points: Sequence[Point], number: int, scale: float) -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
    x = [p.measured / scale for p in points]
    y = [p.predicted / scale for p in points]
    ranged = [p for p in points if p.low is not None and p.high is not None]
    axes.vlines(
        [p.measured / scale for p in ranged],
        [(p.low or 0.0) / scale for p in ranged],
        [(p.high or 0.0) / scale for p in ranged],
        color=colour,
        alpha=0.5,
        linewidth=1,
    )
    label = f"{shortened(points[0].group, 34)} ({mean_error(points):.1%} off)"
    axes.scatter(x, y, s=20, c=colour, marker=marker, alpha=0.8, edgecolors="white", linewidths=0.4, label=label)


def _name_furthest(axes: Any, points: Sequence[Point], scale: float) -> None:
    """Write the labels of the points furthest outside the band beside them, apart from each other.

    They go away from the diagonal where there is room, else across it.
    """
    low = min(p.measured for p in points)
    span = math.log(max(p.measured for p in points) / low) or 1.0
    named: list[Point] = []
    for point in sorted(points, key=lambda p: -abs(math.log(p.predicted / p.measured))):
        near = any(abs(math.log(point.predicted / p.predicted)) < _APART * span for p in named)
        if len(named) == _NAMED or abs(point.error) <= BAND or near:
            continue
        named.append(point)
        text = shortened(point.label, 28)
        share = (math.log(point.measured / low)) / span
        room = share if point.error > 0 else 1 - share
        leftward = (point.error > 0) == (room > len(text) * _LETTER)
        written = axes.annotate(
            text,
            (point.measured / scale, point.predicted / scale),
            xytext=(-5 if leftward else 5, 4 if point.error > 0 else -4),
            textcoords="offset points",
            ha="right" if leftward else "left",
            va="bottom" if point.error > 0 else "top",
            fontsize=7,
        )
        written.set_in_layout(False)


def _said(points: Sequence[Point]) -> str:
    inside = sum(abs(p.error) <= BAND for p in points)
    return f"mean |error| {mean_error(points):.1%}, {inside} of {len(points)} within ±10 %"
