# ruff: noqa: UP006, UP035, UP045
"""Repeated timing: warm-up, repeats, median and interquartile range.

Warm: one call again and again; its operands, and the memory of its result, come from the caches as far as they fit.

Cold: before each repeat `COLD_BYTES` are passed through the caches, then calls are timed that each have operands of
their own. Results are kept until the repeat ends, as a step keeps its activations: the allocator must find new memory
for each, and the system new pages where it gave them back.

Repeats beside slow probes of the machine's `pace` are made again, and do not count where others do.
"""

import time
from statistics import median
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from workloads.measuring.board.pace import UNWATCHED, Steady, Unwatched

WARM_UP_CALLS = 2
SHORTEST_S = 1e-3
"""A repeat shorter than this is made of several calls, so that the clock and the loop do not count."""
LONGEST_S = 1.0
"""When repeats of one case have taken so long, no more begin but to `FEWEST_REPEATS`."""
FEWEST_REPEATS = 3
COLD_BYTES = 64 * 2**20
"""More than the last level of cache of any processor on an edge board, and twice that of most desktops."""
COLD_CALLS = 8
"""The most calls in a cold repeat."""

Call = Callable[[], Any]


SHORTEST_STEP_S = 0.02
"""The same for whole steps, in which more is left to chance."""
STEP_WARM_UP, STEP_WARM_UP_S = 2, 0.5
"""So many steps at least, for so long: the first makes the optimizer's state, the second the gradients anew, and a
processor at rest takes its time to be quick."""


class Timing(NamedTuple):
    """Seconds of one call, once a repeat; from `start_s` to `end_s` of Unix time it ran back to back, or None.

    `slowed` is what the machine took then over what it takes when left alone."""

    seconds: Tuple[float, ...]
    start_s: Optional[float] = None
    end_s: Optional[float] = None
    slowed: float = 1.0

    @property
    def median_s(self) -> float:
        """The median of the repeats."""
        return median(self.seconds)

    @property
    def spread_s(self) -> Optional[float]:
        """The interquartile range of the repeats, between them linearly; None of a single one."""
        ordered = sorted(self.seconds)
        if len(ordered) < 2:
            return None
        return _quantile(ordered, 0.75) - _quantile(ordered, 0.25)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def warm_up_steps(step: Callable[[], float]) -> int:
    """Run steps, each of which returns its seconds, until they are as quick as ever; return how many make a repeat."""
    taken: List[float] = []
    while len(taken) < STEP_WARM_UP or sum(taken) < STEP_WARM_UP_S:
        taken.append(step())
    return max(1, round(SHORTEST_STEP_S / max(min(taken), 1e-7)))


def means(taken: Sequence[Dict[str, float]]) -> Dict[str, float]:
    """Return the mean seconds of each phase of some steps."""
    return {phase: sum(seconds[phase] for seconds in taken) / len(taken) for phase in taken[0]}


def nothing() -> None:
    """Wait for nothing: the processor itself has run what was called when the call returns."""


def time_calls(
    call: Call,
    repeats: int,
    deadline_s: float = float("inf"),
    wait: Call = nothing,
    window_s: float = 0.0,
    pace: Unwatched = UNWATCHED,
) -> Timing:
    """Time `call`, warmed up, `repeats` times, or at least once until `time.monotonic()` is `deadline_s`.

    The repeats together fill at least `window_s`. `wait` returns when a device has done all it was asked.
    """
    shortest = min(_seconds([call], wait) for _ in range(WARM_UP_CALLS))
    at_least = max(SHORTEST_S, window_s / repeats)
    calls = [call] * max(1, round(at_least / max(shortest, 1e-7)))
    start_s, begun = time.time(), time.monotonic()  # the clock of the day may be set meanwhile
    timing = repeat(lambda: _seconds(calls, wait) / len(calls), repeats, deadline_s, window_s, pace)
    return timing._replace(start_s=start_s, end_s=start_s + time.monotonic() - begun)


def time_cold(
    calls: Sequence[Call],
    flush: Call,
    repeats: int,
    deadline_s: float = float("inf"),
    wait: Call = nothing,
    pace: Unwatched = UNWATCHED,
) -> Timing:
    """Time `calls`, all alike but for their operands, once in each repeat, after a `flush` of the caches."""

    def one() -> float:
        flush()
        wait()
        kept: List[Any] = []
        return _seconds(calls, wait, kept) / len(calls)

    return repeat(one, repeats, deadline_s, pace=pace)


def repeat(
    once: Callable[[], float], repeats: int, deadline_s: float, window_s: float = 0.0, pace: Unwatched = UNWATCHED
) -> Timing:
    """Time `once` again and again: `repeats` times, fewer past `deadline_s` or `LONGEST_S`, more to fill `window_s` or
    for want of quiet."""
    steady = Steady(repeats, pace)
    begun = time.monotonic()
    while not steady.count() or time.monotonic() < deadline_s:
        spent = time.monotonic() - begun
        enough = steady.enough() or (steady.count() >= FEWEST_REPEATS and spent > LONGEST_S)
        if steady.count() and enough and spent >= window_s:
            break
        steady.once(once)
    return Timing(tuple(steady.kept()), slowed=steady.slowed())


def _seconds(calls: Sequence[Call], wait: Call, kept: Optional[List[Any]] = None) -> float:
    """Run `calls` and return the seconds of all; their results go to `kept` if given, else they are freed at once."""
    start = time.perf_counter()
    if kept is None:
        for call in calls:
            call()
    else:
        for call in calls:
            kept.append(call())
    wait()
    return time.perf_counter() - start
