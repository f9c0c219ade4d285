"""Energy of what was measured, from power that was sampled meanwhile: rows and a trace, joined by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.measurements.metrics import METRICS
from analysis.measurements.row import Row
from analysis.power.boards import board_total
from analysis.power.energy import measure
from analysis.power.trace import Trace
from simulator.errors import TrainwattError
from workloads.measuring.board.power import FEWEST_SAMPLES

ADDED = ("energy", "energy_above_idle", "power", "idle_power")


@dataclass(frozen=True)
class Joined:
    """`rows` with those of energy after the latency that each belongs to; how many latencies were `joined`, and how
    many have no time (`untimed`), ran when the log did not (`outside`) or too short for it (`short`).
    """

    rows: tuple[Row, ...]
    joined: int
    untimed: int
    outside: int
    short: int


def join(rows: Sequence[Row], trace: Trace, idle_w: float | None = None) -> Joined:
    """Add energy to every latency that ran from `start_s` to `end_s` while `trace` was logged.

    What ran back to back for a window at a mean of P W took E = P * latency each time; above idle (P - `idle_w`) *
    latency. Energy that is in `rows` already stays, and none is added to its setup. Raises `TrainwattError` for a log
    that does not say when it began.
    """
    if trace.began_s is None:
        raise TrainwattError(f"the {trace.kind} log does not say when it began; give that as --began, in Unix time")
    known = {row.setup for row in rows if row.metric in ADDED}
    found: list[Row] = []
    counts = {"joined": 0, "untimed": 0, "outside": 0, "short": 0}
    for row in rows:
        found.append(row)
        if row.metric != "latency" or row.setup in known:
            continue
        more = _energy(row, trace, trace.began_s, idle_w)
        if isinstance(more, str):
            counts[more] += 1
        else:
            counts["joined"] += 1
            found += more
    return Joined(tuple(found), **counts)


def _energy(row: Row, trace: Trace, began_s: float, idle_w: float | None) -> list[Row] | str:
    """Return the rows that belong to a latency, or why there are none."""
    if row.start_s is None or row.end_s is None:
        return "untimed"
    from_s, to_s = row.start_s - began_s, row.end_s - began_s
    if from_s < 0 or to_s > trace.duration_s:
        return "outside"
    if sum(from_s <= time <= to_s for time in trace.times_s) < FEWEST_SAMPLES:
        return "short"
    mean_w = measure(trace, from_s=from_s, to_s=to_s).total.mean_w
    values = {"power": mean_w, "energy": mean_w * row.value}
    if idle_w is not None:
        values |= {"idle_power": idle_w, "energy_above_idle": (mean_w - idle_w) * row.value}
    source = f"{row.source}; power by {trace.kind}: {trace.total_is}"
    return [
        replace(row, metric=name, value=value, unit=METRICS[name].unit, spread=None, source=source)
        for name, value in values.items()
        if value > 0 or name != "energy"
    ]


def trace_of(kind: str, samples: Sequence[tuple[float, Mapping[str, float]]]) -> Trace:
    """Return what a meter `kind` sampled at Unix times, in W by rail. Raises `TrainwattError` for no samples."""
    if not samples:
        raise TrainwattError(f"no sample of power by {kind}; use --power none")
    names = tuple(samples[0][1])
    began_s = samples[0][0]
    watts = {name: tuple(held[name] for _, held in samples) for name in names}
    times_s = tuple(time_s - began_s for time_s, _ in samples)
    return Trace(kind, times_s, watts, *board_total(names), began_s=began_s)
