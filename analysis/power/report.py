"""What a power log says, as text and as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analysis.power.energy import Measured
from analysis.power.trace import Trace
from analysis.table import table
from simulator.units import show


def text(trace: Trace, measured: Measured) -> str:
    """Return the report on a window of a log."""
    window, idle = measured.window, measured.idle
    count = f"{len(trace.times_s)} sample" + "s" * (len(trace.times_s) > 1)
    head = f"{trace.kind}: {count} over {show(trace.duration_s, 's')}"
    if trace.duration_s:
        head += f"; {show(window.duration_s, 's')} measured, from {window.from_s:g} to {window.to_s:g} s"
    rows = [("rail", "mean power", "energy", *(("idle", "above idle") if idle else ()))]
    for rail in (*measured.rails, measured.total):
        cells = [rail.rail, show(rail.mean_w, "W"), "-" if rail.energy_j is None else show(rail.energy_j, "J")]
        if rail.idle_w is not None and rail.above_idle_j is not None:
            cells += [show(rail.idle_w, "W"), show(rail.above_idle_j, "J")]
        rows.append(tuple(cells))
    lines = [head, "", table(rows), "", f"total: {trace.total_is}"]
    if idle:
        lines.append(f"idle: mean from {idle.from_s:g} to {idle.to_s:g} s")
    return "\n".join([*lines, *(f"note: {note}" for note in measured.notes)])


def document(trace: Trace, measured: Measured) -> dict[str, Any]:
    """Return the report as plain values, in s, W and J."""
    rails = {rail.rail: {k: v for k, v in asdict(rail).items() if k != "rail"} for rail in measured.rails}
    return {
        "kind": trace.kind,
        "samples": len(trace.times_s),
        "log_s": trace.duration_s,
        "duration_s": measured.window.duration_s,
        "window": asdict(measured.window),
        "idle_window": None if measured.idle is None else asdict(measured.idle),
        "total": {k: v for k, v in asdict(measured.total).items() if k != "rail"} | {"is": trace.total_is},
        "rails": rails,
        "notes": list(measured.notes),
    }
