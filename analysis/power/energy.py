"""From power to energy: the integral over a window, and what of it is above idle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from analysis.power.trace import Trace
from simulator.errors import TrainwattError, unknown

GAP = 5.0
"""A gap is a pause between samples longer than this many of their median distances."""

ROUNDING = 1e-9
"""What is above idle by less than this share is a difference of equal sums."""


@dataclass(frozen=True)
class Window:
    """A stretch of a trace, in seconds since its first sample."""

    from_s: float
    to_s: float

    @property
    def duration_s(self) -> float:
        """Its length."""
        return self.to_s - self.from_s


@dataclass(frozen=True)
class RailEnergy:
    """What one rail drew in a window.

    `energy_j` is None of a single sample; `idle_w` and `above_idle_j` are None where idle was not marked.
    """

    rail: str
    mean_w: float
    energy_j: float | None
    idle_w: float | None
    above_idle_j: float | None


@dataclass(frozen=True)
class Measured:
    """Energy over `window`: of the whole (`total`) and of each rail. `notes` say what limits it."""

    window: Window
    idle: Window | None
    total: RailEnergy
    rails: tuple[RailEnergy, ...]
    notes: tuple[str, ...]


def measure(
    trace: Trace,
    *,
    from_s: float | None = None,
    to_s: float | None = None,
    idle_from_s: float | None = None,
    idle_to_s: float | None = None,
    rail: str | None = None,
) -> Measured:
    """Integrate the power of `trace` over a window (all of it by default), by the trapezoidal rule.

    E = sum over i of (p[i] + p[i+1]) / 2 * (t[i+1] - t[i]), with powers at the window's ends interpolated; above
    idle it is E - (mean power in the idle window) * (duration), which is negative where the window drew less than
    idle. `rail` leaves the other rails out. Raises `TrainwattError` for a window that is empty or not in the trace,
    an idle window that overlaps it, and a rail that is not there.
    """
    if rail is not None and rail not in trace.watts:
        raise unknown("rail", rail, trace.watts)
    names = list(trace.watts) if rail is None else [rail]
    if len(trace.times_s) == 1:
        if any(end is not None for end in (from_s, to_s, idle_from_s, idle_to_s)):
            raise TrainwattError(f"a window in a {trace.kind} log of one sample; log for a while")
        single = tuple(RailEnergy(name, trace.watts[name][0], None, None, None) for name in names)
        total = RailEnergy("total", trace.total_w[0], None, None, None)
        return Measured(Window(0.0, 0.0), None, total, single, (*trace.notes, "one sample: a power, but no energy"))
    window = _window(trace, "window", from_s, to_s)
    idle = None
    if idle_from_s is not None or idle_to_s is not None:
        if idle_from_s is None or idle_to_s is None:
            given, other = ("from", "to") if idle_to_s is None else ("to", "from")
            raise TrainwattError(f"idle {given} but not {other}; mark both ends of the idle window")
        idle = _window(trace, "idle window", idle_from_s, idle_to_s)
        if idle.from_s < window.to_s and window.from_s < idle.to_s:
            raise TrainwattError(
                f"idle window {_text(idle)} overlaps the window {_text(window)}; mark idle where nothing is measured"
            )

    def on(name: str, watts: Sequence[float]) -> RailEnergy:
        energy = integral(trace.times_s, watts, window)
        idle_w = integral(trace.times_s, watts, idle) / idle.duration_s if idle else None
        above = None if idle_w is None else energy - idle_w * window.duration_s
        if above is not None and abs(above) <= ROUNDING * energy:
            above = 0.0
        return RailEnergy(name, energy / window.duration_s, energy, idle_w, above)

    rails = tuple(on(name, trace.watts[name]) for name in names)
    notes = (*trace.notes, *_gap_notes(trace, "window", window))
    notes += _gap_notes(trace, "idle window", idle) if idle else ()
    return Measured(window, idle, on("total", trace.total_w), rails, notes)


def integral(times_s: Sequence[float], values: Sequence[float], window: Window) -> float:
    """Return the trapezoidal integral of `values` over `window`, which lies within `times_s`."""

    def at(time: float) -> float:
        after = min(max(bisect_left(times_s, time), 1), len(times_s) - 1)
        (t0, t1), (v0, v1) = times_s[after - 1 : after + 1], values[after - 1 : after + 1]
        return v0 + (v1 - v0) * (time - t0) / (t1 - t0)

    inside = range(bisect_right(times_s, window.from_s), bisect_left(times_s, window.to_s))
    times = [window.from_s, *(times_s[i] for i in inside), window.to_s]
    powers = [at(window.from_s), *(values[i] for i in inside), at(window.to_s)]
    return sum((powers[i] + powers[i + 1]) / 2 * (times[i + 1] - times[i]) for i in range(len(times) - 1))


def gaps(trace: Trace) -> tuple[Window, ...]:
    """Return the pauses between samples that are longer than `GAP` times the median."""
    pauses = [Window(a, b) for a, b in zip(trace.times_s, trace.times_s[1:], strict=False)]
    usual = median(pause.duration_s for pause in pauses) if pauses else 0.0
    return tuple(pause for pause in pauses if pause.duration_s > GAP * usual)


def _window(trace: Trace, what: str, from_s: float | None, to_s: float | None) -> Window:
    last = trace.times_s[-1]
    window = Window(0.0 if from_s is None else from_s, last if to_s is None else to_s)
    if not window.from_s < window.to_s:
        raise TrainwattError(f"{what} {_text(window)}; it begins before it ends")
    if not (window.from_s >= 0 and window.to_s <= last * (1 + 1e-9)):
        raise TrainwattError(f"{what} {_text(window)}; the log runs from 0 to {last:g} s")
    return Window(window.from_s, min(window.to_s, last))


def _gap_notes(trace: Trace, what: str, window: Window) -> tuple[str, ...]:
    found = [gap for gap in gaps(trace) if gap.from_s < window.to_s and window.from_s < gap.to_s]
    if not found:
        return ()
    # A window's end may lie in a gap: only what is inside counts.
    seconds = sum(min(gap.to_s, window.to_s) - max(gap.from_s, window.from_s) for gap in found)
    where = ", ".join(_text(gap) for gap in found[:3]) + (", ..." if len(found) > 3 else "")
    share = seconds / window.duration_s
    return (f"{what}: no samples in {seconds:.3g} s of it ({100 * share:.3g} %), bridged by straight lines: {where}",)


def _text(window: Window) -> str:
    return f"{window.from_s:g} to {window.to_s:g} s"
