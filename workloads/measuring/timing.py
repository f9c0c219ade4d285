"""Repeated timing: warm-up, repeats, median and interquartile range."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from workloads.training.trial import quantile

WARM_UP_CALLS = 2
SHORTEST_S = 1e-3
"""A repeat shorter than this is made of several calls, so that the clock and the loop do not count."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, once a repeat."""

    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median of the repeats."""
        return median(self.seconds)

    @property
    def spread_s(self) -> float | None:
        """The interquartile range of the repeats; None of a single one."""
        if len(self.seconds) < 2:
            return None
        ordered = sorted(self.seconds)
        return quantile(ordered, 0.75) - quantile(ordered, 0.25)


def time_calls(call: Callable[[], object], repeats: int, deadline_s: float = float("inf")) -> Timing:
    """Time `call`, warmed up, `repeats` times, or at least once until `time.monotonic()` is `deadline_s`."""
    shortest = min(_seconds(call, 1) for _ in range(WARM_UP_CALLS))
    calls = max(1, round(SHORTEST_S / max(shortest, 1e-7)))
    taken: list[float] = []
    while not taken or (len(taken) < repeats and time.monotonic() < deadline_s):
        taken.append(_seconds(call, calls) / calls)
    return Timing(tuple(taken))


def _seconds(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start
