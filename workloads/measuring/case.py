"""What is measured, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from workloads.measuring.board.pace import SLOWED
from workloads.measuring.board.timing import Timing


@dataclass(frozen=True)
class Value:
    """A measured `metric` in SI units: the median of `repeats`, with their interquartile range (None of one).

    It ran from `start_s` to `end_s` of Unix time, back to back, or these are None.
    """

    kind: str
    phase: str
    metric: str
    value: float
    spread: float | None = None
    repeats: int = 1
    start_s: float | None = None
    end_s: float | None = None


class Case(Protocol):
    """One thing to measure: an op kind or a network (`what`), its parameters, at a batch size.

    `kind` and `phase` are those of the first of its values, by which a case is known to have been measured.
    """

    @property
    def kind(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def phase(self) -> str: ...

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        """Measure with `threads` threads, and begin no repeat but the first after `deadline_s` (`time.monotonic()`).

        Raises `MemoryError` where it does not fit, and `TimeoutError` where it is given up after the deadline.
        """
        ...


@dataclass(frozen=True)
class Host:
    """This machine and its software, in the words of a row of measurements."""

    device: str
    power_mode: str = ""
    clocks: Mapping[str, int] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)


def latency_of(timing: Timing, kind: str, phase: str) -> tuple[Value, ...]:
    """Return the latency that `timing` is of, and how much the machine was slowed if it was all along."""
    spread, repeats = timing.spread_s, len(timing.seconds)
    latency = Value(kind, phase, "latency", timing.median_s, spread, repeats, timing.start_s, timing.end_s)
    slowed = Value(kind, phase, "slowed", timing.slowed, repeats=repeats)
    return (latency, slowed) if timing.slowed > SLOWED else (latency,)
