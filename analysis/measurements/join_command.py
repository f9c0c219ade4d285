"""The command `trainwatt power LOG --join`, from its options to its output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from analysis.measurements.energy import Joined, join
from analysis.measurements.format import read, write
from analysis.measurements.row import Row
from analysis.output import check_writable
from analysis.power.energy import Window, integral, measure
from analysis.power.reading import parse
from analysis.power.trace import Trace
from simulator.errors import TrainwattError


def join_and_report(
    log: str,
    path: str | None,
    output: str | None,
    began_s: float | None,
    *,
    kind: str,
    interval_s: float | None,
    idle_from_s: float | None,
    idle_to_s: float | None,
    from_s: float | None,
    to_s: float | None,
    rail: str | None,
    json_path: str | None,
) -> None:
    """Write measurements with the energy that a log says they took, and say how many. Raises `TrainwattError`."""
    if path is None or output is None:
        raise TrainwattError("a joined file needs both ends; give --join FILE and -o FILE")
    if any(given is not None for given in (from_s, to_s, rail, json_path)):
        raise TrainwattError("--from, --to, --rail or --json with --join; the rows say what is integrated")
    check_writable(output)
    rows = read(path)
    trace = parse(Path(log), kind, interval_s)
    if began_s is not None:
        trace = replace(trace, began_s=began_s)
    idle_w = _idle_w(trace, rows, idle_from_s, idle_to_s)
    joined = join(rows, trace, idle_w)
    write(output, joined.rows)
    click.echo(_text(output, joined, idle_w))


def _idle_w(trace: Trace, rows: tuple[Row, ...], from_s: float | None, to_s: float | None) -> float | None:
    """Return the mean power at rest: in the window given, else in that which a row of `idle_power` says."""
    if from_s is not None or to_s is not None:
        if from_s is None or to_s is None:
            raise TrainwattError("half an idle window; give --idle-from and --idle-to")
        return measure(trace, from_s=from_s, to_s=to_s).total.mean_w
    for row in rows:
        if row.kind == "power" and row.metric == "idle_power" and row.start_s is not None and trace.began_s is not None:
            start_s, end_s = row.start_s - trace.began_s, (row.end_s or 0.0) - trace.began_s
            window = Window(max(start_s, 0.0), min(end_s, trace.duration_s))
            if window.duration_s > 0:
                return integral(trace.times_s, trace.total_w, window) / window.duration_s
    return None


def _text(output: str, joined: Joined, idle_w: float | None) -> str:
    parts = [f"energy of {joined.joined} measurements"]
    parts += [f"{joined.untimed} have no start_s and end_s"] if joined.untimed else []
    parts += [f"{joined.outside} ran when nothing was logged"] if joined.outside else []
    parts += [f"{joined.short} ran for too few samples"] if joined.short else []
    idle = "idle power unknown" if idle_w is None else f"idle {idle_w:.3g} W"
    return f"{output}: {', '.join(parts)}; {idle}"
