"""The memory that a step holds over its time, stacked by what the blocks are or by the phase that made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from analysis.pictures.style import GREY, PHASE_COLOURS, ROLE_COLOURS, VERMILLION, key, picture, scaled
from analysis.table import shortened
from simulator.graph import PHASES, ROLES
from simulator.memory import storage_bytes
from simulator.report import Report
from simulator.units import show

BEFORE, WORKSPACE = "before the step", "workspace"
_COLOURS: Mapping[str, str] = {**PHASE_COLOURS, **ROLE_COLOURS, BEFORE: "#B0B0B0", WORKSPACE: VERMILLION}
_HOLDERS = 3

By = Literal["role", "phase"]


def held(report: Report, by: By) -> dict[str, Any]:
    """Return the bytes held during each op, each of shape (ops,), that add up to `report.memory.live_bytes`.

    By role: what a block holds (`parameter`, `saved`, ...). By phase: in which phase of the step it was made. What
    kernels allocate inside an op is `workspace`.
    """
    graph = report.graph.worst()
    size, count = storage_bytes(graph), len(graph.ops)
    names = ROLES if by == "role" else (BEFORE, *PHASES)
    change = {name: np.zeros(count + 1, dtype=np.int64) for name in names}
    for storage, amount in zip(graph.storages, size.tolist(), strict=True):
        end = count if storage.died is None else storage.died + 1
        made = graph.ops[storage.born].phase if storage.born >= 0 else BEFORE
        column = change[storage.role if by == "role" else made]
        column[max(storage.born, 0)] += amount
        column[min(end, count)] -= amount
    found = {name: np.cumsum(column[:-1]) for name, column in change.items()}
    found[WORKSPACE] = report.memory.live_bytes - sum(found.values())
    return {name: column for name, column in found.items() if column.any()}


def draw(report: Report, path: str, *, by: By = "role") -> None:
    """Write what is held over the time of the step, with the peak, what holds most of it, and the device's memory.

    Raises `TrainwattError` where the picture cannot be written.
    """
    columns, memory = held(report, by), report.memory
    end = report.timeline.end_s
    time_scale, time_unit = scaled([end], "s")
    scale, unit = scaled([memory.peak_bytes], "B")
    times = np.append(report.timeline.start_s, end) / time_scale
    times[0] = 0.0
    with picture(path, height_in=4.2) as figure:
        axes = figure.add_subplot()
        below = np.zeros(len(times))
        for name, column in columns.items():
            above = below + np.append(column, column[-1]) / scale
            axes.fill_between(times, below, above, step="post", color=_COLOURS[name], linewidth=0, label=name)
            below = above
        top = float(memory.peak_bytes) / scale
        limit = report.memory_bytes / scale
        if limit < 1.6 * top:
            axes.axhline(limit, color=VERMILLION, linestyle="--", linewidth=1, label=f"memory of {report.device}")
        _mark_peak(axes, report, times[memory.peak_op] if memory.peak_op >= 0 else 0.0, times[-1], top)
        axes.set(xlim=(0, times[-1]), ylim=(0, max(1.45 * top, 1.05 * limit if limit < 1.6 * top else 0)))
        axes.set_xlabel(f"time in the step ({time_unit})")
        axes.set_ylabel(f"memory held ({unit})")
        mode = f", {report.mode}" if report.mode else ""
        key(figure, f"{report.network}, batch {report.graph.batch}, on {report.device}{mode}")


def _mark_peak(axes: Any, report: Report, at: float, end: float, top: float) -> None:
    """Mark the peak and name what holds most of it, in the room above, away from the nearer edge."""
    memory = report.memory
    lines = [f"peak {show(memory.peak_bytes, 'byte')}"]
    if memory.peak_op >= 0:
        op = report.graph.ops[memory.peak_op]
        lines[0] += f" in {shortened(op.kind, 30)} of {shortened(op.layer, 24) or 'no layer'}"
    for holder in memory.holders[:_HOLDERS]:
        of = holder.name or f"{holder.op_kind} of {holder.layer or 'no layer'}"
        lines.append(f"{show(holder.size_bytes, 'byte')} {holder.role}: {shortened(of, 34)}")
    axes.plot([at], [top], marker="v", color="black", markersize=5, clip_on=False, zorder=3)
    axes.vlines(at, 0, top, color=GREY, linewidth=0.6, linestyle=":")
    early = at < end / 2
    axes.annotate(
        "\n".join(lines),
        (at, top),
        xytext=(0.02 if early else 0.98, 0.98),
        textcoords="axes fraction",
        ha="left" if early else "right",
        va="top",
        fontsize=7,
        linespacing=1.35,
    )
