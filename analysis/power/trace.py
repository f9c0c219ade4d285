"""Power over time, as a log tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from simulator.errors import TrainwattError

EARLIEST_S = 1e8
"""Times of logs that begin sooner after 1970 count from their own beginning."""

SAME_SCALE = 2.0
"""The largest ratio of a meter's power to its own volts times amperes that sampling may explain."""


@dataclass(frozen=True)
class Trace:
    """Samples of power: at `times_s[i]`, in seconds since the first sample, rail `r` draws `watts[r][i]` W.

    The power of the whole board is the sum of the rails named in `total`; `total_is` says in words what that is.
    `kind` is the log's format; `notes` say what was assumed and what was left out; `began_s` is the Unix time of the
    first sample, None where the log does not say it (stamps of a local time are taken as UTC). Raises `TrainwattError`
    on construction for no samples or rails, NaN, and time that does not go forward.
    """

    kind: str
    times_s: tuple[float, ...]
    watts: Mapping[str, tuple[float, ...]]
    total: tuple[str, ...]
    total_is: str
    notes: tuple[str, ...] = ()
    began_s: float | None = None

    def __post_init__(self) -> None:
        if not self.times_s:
            raise TrainwattError(f"no sample in the {self.kind} log; give a log with at least one")
        if not self.watts or not self.total or any(name not in self.watts for name in self.total):
            raise TrainwattError(f"no power in the {self.kind} log; its samples name the power of at least one rail")
        for name, values in self.watts.items():
            if len(values) != len(self.times_s) or not all(map(math.isfinite, values)):
                raise TrainwattError(f"rail {name!r} of the {self.kind} log; it is a finite number in every sample")
        if any(after <= before for before, after in zip(self.times_s, self.times_s[1:], strict=False)):
            raise TrainwattError(f"time in the {self.kind} log goes back; every sample is later than the one before")

    @property
    def total_w(self) -> tuple[float, ...]:
        """The power of the whole board in each sample."""
        return tuple(map(sum, zip(*(self.watts[name] for name in self.total), strict=True)))

    @property
    def duration_s(self) -> float:
        """The time from the first sample to the last."""
        return self.times_s[-1] - self.times_s[0]


@dataclass(frozen=True)
class Sample:
    """What a log says at one time: its line, its time in seconds (None: not said), and watts by rail."""

    line: int
    time_s: float | None
    watts: Mapping[str, float]


def trace_from(
    kind: str,
    samples: Sequence[Sample],
    total: tuple[str, ...],
    total_is: str,
    *,
    interval_s: float | None = None,
    default_interval_s: float | None = None,
    notes: Sequence[str] = (),
) -> Trace:
    """Return the trace of `samples`, checked line by line.

    Where they have no times, they are `interval_s` apart, or `default_interval_s`, which is then noted. Samples with
    the same time (a clock that is too coarse) are spread evenly up to the next time. Raises `TrainwattError`, with
    the line, for a number that is not finite, rails that change, and time that goes back.
    """
    said = list(notes)
    for sample in samples:
        if sample.watts.keys() != samples[0].watts.keys():
            odd = sorted(sample.watts.keys() ^ samples[0].watts.keys())
            raise refusal(kind, sample.line, f"rails differ from those of line {samples[0].line} in {', '.join(odd)}")
        for name, value in sample.watts.items():
            if not math.isfinite(value):
                raise refusal(kind, sample.line, f"{value} W on {name}", "power is a finite number")
    times = [sample.time_s for sample in samples]
    known = [time for time in times if time is not None]
    if interval_s is not None and len(known) < max(len(times), 1):
        spaced = [interval_s * i for i in range(len(times))]
    elif len(known) < len(times) and len(times) > 1:
        if known:
            line = next(sample.line for sample in samples if sample.time_s is None)
            raise refusal(kind, line, "a sample without a time", "either all have one, or none")
        if default_interval_s is None:
            raise TrainwattError(f"no times in the {kind} log; say how far apart its samples are with --interval")
        said.append(f"the log has no times: samples taken as {default_interval_s:g} s apart")
        spaced = [default_interval_s * i for i in range(len(times))]
    else:
        spaced = _spread(kind, samples, known or [0.0], said)
    watts = {name: tuple(s.watts[name] for s in samples) for name in samples[0].watts} if samples else {}
    start = spaced[0] if spaced else 0.0
    shifted = tuple(time - start for time in spaced) if samples else ()
    return Trace(kind, shifted, watts, total, total_is, tuple(said), start if start >= EARLIEST_S else None)


def _spread(kind: str, samples: Sequence[Sample], times: Sequence[float], said: list[str]) -> list[float]:
    for before, sample, after in zip(times, samples[1:], times[1:], strict=False):
        if not after >= before:
            raise refusal(kind, sample.line, f"time goes from {before:g} to {after:g} s", "every sample is later")
    groups = [(time, len(list(same))) for time, same in groupby(times)]
    if len(groups) == len(times):
        return list(times)
    if len(groups) == 1:
        raise TrainwattError(f"all samples of the {kind} log have the same time; say their distance with --interval")
    steps = [after - before for (before, _), (after, _) in pairwise(groups)]
    # No later time bounds the last group: its samples are as far apart as those of the group before.
    steps.append(steps[-1] * groups[-1][1] / groups[-2][1])
    said.append(f"{len(times)} samples at {len(groups)} different times: those of one time spread up to the next")
    return [time + step * i / n for (time, n), step in zip(groups, steps, strict=True) for i in range(n)]


def refusal(kind: str, line: int, what: str, right: str = "correct or remove the line") -> TrainwattError:
    """Return the error for a line of a log."""
    return TrainwattError(f"{kind} log, line {line}: {what}; {right}")


def number(kind: str, line: int, text: str, what: str) -> float:
    """Return `text` as a finite number. Raises `TrainwattError` with the line and `what` it should have been."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise refusal(kind, line, f"{text.strip()!r} for {what}", "it is a finite number")
    return value


def power_of(volts: float, amperes: float, watts: float | None) -> tuple[float, bool]:
    """Return the power of a rail in W, and whether the meter's own figure was rejected for it.

    A meter's figure is the better one, as it follows swings between samples of volts and amperes. But registers of
    power are scaled by a shunt resistance that drivers may have wrong: one that is more than `SAME_SCALE` times too
    large or too small gives way to volts times amperes.
    """
    product = volts * amperes
    if watts is None or not product:
        return (product, False) if watts is None else (watts, False)
    same = 1 / SAME_SCALE <= watts / product <= SAME_SCALE
    return (watts, False) if same else (product, True)


def scale_note(rejected: Sequence[int], what: str) -> tuple[str, ...]:
    """Return the note that on lines `rejected` the power `what` was of another scale than volts times amperes."""
    if not rejected:
        return ()
    more = f" and {len(rejected) - 1} more" if len(rejected) > 1 else ""
    return (f"line {rejected[0]}{more}: {what} has a wrong scale, volts times amperes taken instead",)
