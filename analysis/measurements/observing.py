"""What is observed around a measurement: clocks, heat and throttling, and power where there is a meter."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measurements.energy import join, trace_of
from analysis.measurements.row import Row
from analysis.power.energy import measure
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from workloads.measuring.board.power import PowerLog
    from workloads.measuring.board.telemetry import Telemetry
    from workloads.measuring.case import Case, Value

IDLE_S = 5.0
"""How long idle power is measured before anything runs."""


@dataclass(frozen=True)
class Observer:
    """Observes cases with `telemetry` and, if there is one, a power `log` that runs; `idle_w` is power at rest."""

    telemetry: Telemetry
    log: PowerLog | None = None
    idle_w: float | None = None

    @property
    def window_s(self) -> float:
        """How long something must run for its energy to be known."""
        return self.log.meter.window_s if self.log else 0.0

    @contextlib.contextmanager
    def watching(self, case: Case) -> Iterator[list[Value]]:
        """Yield a list that holds, when the block ends, what was observed meanwhile."""
        from workloads.measuring.board.telemetry import Watch
        from workloads.measuring.case import Value

        observed: list[Value] = []
        with Watch(self.telemetry) as watch:
            yield observed
        observed += [
            Value(case.kind, case.phase, r.metric, r.value, start_s=r.start_s, end_s=r.end_s) for r in watch.readings
        ]

    def with_energy(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return `rows` and their energy, where a meter runs."""
        ends = [row.end_s for row in rows if row.metric == "latency" and row.end_s is not None]
        if self.log is None or not ends:
            return rows
        self.log.wait_past(max(ends))
        since = min(row.start_s for row in rows if row.start_s is not None)
        samples = list(self.log.samples)
        first = max(bisect_right(samples, since, key=lambda sample: sample[0]) - 1, 0)  # the last before it began
        return join(rows, trace_of(self.log.meter.name, samples[first:]), self.idle_w).rows


@contextlib.contextmanager
def observer(power: str, say: Callable[[str], None]) -> Iterator[Observer]:
    """Yield an observer of this machine, with the power meter `power` (`auto`, `none` or a name), idle measured first.

    Raises `TrainwattError` for a meter that is not known, not there, or tells nothing.
    """
    from workloads.measuring.board.power import PowerLog, open_meter
    from workloads.measuring.board.telemetry import Telemetry

    try:
        meter = open_meter(power)
    except ValueError as error:
        raise TrainwattError(str(error)) from None
    if meter is None:
        yield Observer(Telemetry())
        return
    say(f"power by {meter.name}: idle for {IDLE_S:g} s ...")
    with PowerLog(meter) as log:
        time.sleep(IDLE_S)
        trace = trace_of(meter.name, list(log.samples))
        yield Observer(Telemetry(), log, measure(trace).total.mean_w)
