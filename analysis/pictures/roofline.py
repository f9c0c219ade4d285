"""A device's roofline as a picture, with the ops of a step on it.

attainable = min(peak, bandwidth * intensity), for the peak of each precision and each bandwidth on the card [Williams,
Waterman, Patterson, "Roofline", CACM 52(4), 2009]. An op stands at its FLOPs per byte of traffic and per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.pictures.style import COLOURS, GREY, MARKERS, PHASE_COLOURS, key, log_axes, picture
from analysis.roofs import bandwidths, peaks
from simulator.report import Report
from simulator.units import show
from simulator.work import KERNELS

_LINES = ("-", "--", "-.", ":")
_LARGEST = 420.0
"""Area of the bubble of an op that takes all of the time, in square points."""
_SMALLEST = 5.0
_LEAST = 1e-4
"""Ops that take a smaller share of the time are not shown: they would stretch the axes for nothing."""
_MARKED = 5
"""So many kernel classes have a mark of their own, those that take most time."""


def draw(card: Mapping[str, Any], path: str, report: Report | None = None) -> None:
    """Write the roofline of a device card, and on it the ops of `report`, where one is given.

    The area of a bubble is the op's share of the step's time, its colour the phase, its mark the kernel class. Raises
    `TrainwattError` where the file cannot be written.
    """
    found = bubbles(report) if report is not None else None
    low, high = 2.0**-4, 2.0**10
    if found is not None and len(found[0]):
        low, high = min(low, found[0].min() / 1.5), max(high, found[0].max() * 1.5)
    intensities = np.geomspace(low, high, 200)
    with picture(path, height_in=4.2 if report is None else 5.0) as figure:
        axes = figure.add_subplot()
        if report is not None and found is not None:
            _ops(axes, report, *found)
        _ceilings(axes, card, intensities, dark=report is None)
        log_axes(axes, x=True, y=True)
        axes.set(xlim=(low, high), xlabel="arithmetic intensity (FLOP/byte)", ylabel="rate (GFLOP/s)")
        title = f"{card['name']}, mode {card['mode']}"
        if report is not None and found is not None:
            title = f"{report.network}, batch {report.graph.batch}, on {title}\n{_left_out(report, found[3])}"
        key(figure, title)


def _ceilings(axes: Any, card: Mapping[str, Any], intensities: Any, *, dark: bool) -> None:
    """Draw the roof of the highest peak under each bandwidth, and each lower peak as a level line."""
    top = peaks(card)
    widest = max(bandwidths(card).values())
    highest = max(top.values())
    for number, (name, bandwidth) in enumerate(bandwidths(card).items()):
        label = f"{name} bandwidth {show(bandwidth, 'byte/s')}"
        colour = COLOURS[number % len(COLOURS)] if dark else "black"
        reached = np.minimum(highest, bandwidth * intensities) / 1e9
        axes.plot(intensities, reached, color=colour, linestyle=_LINES[number % len(_LINES)], label=label, zorder=1)
    written: list[float] = []
    for dtype, peak in top.items():
        flat = intensities[intensities >= peak / widest]
        axes.plot(flat, np.full(len(flat), peak / 1e9), color=GREY, linewidth=1, zorder=1)
        near = any(peak > 0.7 * other for other in written)
        axes.annotate(
            f"{dtype} {show(peak, 'FLOP/s')}",
            (intensities[-1], peak / 1e9),
            xytext=(0, -2 if near else 2),
            textcoords="offset points",
            ha="right",
            va="top" if near else "bottom",
            fontsize=7,
        )
        written.append(peak)


def bubbles(report: Report) -> tuple[Any, Any, Any, Any]:
    """Return FLOP/byte, FLOP/s and share of the time of the ops that are shown, and which they are."""
    ops = report.ops
    traffic, share = ops.read_bytes + ops.written_bytes, ops.latency_s / ops.latency_s.sum()
    placed = np.flatnonzero((ops.flops > 0) & (traffic > 0) & (share > _LEAST))
    return ops.flops[placed] / traffic[placed], ops.flops[placed] / ops.latency_s[placed], share[placed], placed


def _ops(axes: Any, report: Report, intensity: Any, rate: Any, share: Any, placed: Any) -> None:
    phase = np.array([report.graph.ops[i].phase for i in placed.tolist()])
    kernel = report.ops.kernel[placed]
    by_time = np.bincount(kernel, weights=share, minlength=len(KERNELS))
    marked = by_time.argsort()[::-1][:_MARKED]
    classes = [(KERNELS[k], MARKERS[number], kernel == k) for number, k in enumerate(marked) if by_time[k]]
    classes.append(("other ops", MARKERS[_MARKED], ~np.isin(kernel, marked)))
    for label, marker, members in classes:
        for name, colour in PHASE_COLOURS.items():
            here = members & (phase == name)
            if here.any():
                axes.scatter(
                    intensity[here],
                    rate[here] / 1e9,
                    s=_SMALLEST + _LARGEST * share[here],
                    c=colour,
                    marker=marker,
                    alpha=0.6,
                    edgecolors="white",
                    linewidths=0.3,
                    zorder=2,
                )
        if members.any():
            axes.scatter([], [], s=18, c=GREY, marker=marker, label=label)
    for name, colour in PHASE_COLOURS.items():
        if (phase == name).any():
            axes.scatter([], [], s=40, c=colour, marker="|", linewidths=5, label=name)


def _left_out(report: Report, placed: Any) -> str:
    """Say how much of the time is in ops that do no arithmetic, and so have no place, or take next to none."""
    rest = 1.0 - report.ops.latency_s[placed].sum() / report.ops.latency_s.sum()
    return f"area: share of the time ({rest:.1%} in ops not shown)"
