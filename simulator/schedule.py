"""When each op runs: op costs become a timeline on the device's resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simulator.work import Floats, Ints


@dataclass(frozen=True)
class Timeline:
    """Start and duration of every op in seconds, shape (ops,), and the code of the resource it occupies.

    `resource`, shape (ops,), holds codes into `resources`. Ops on one resource do not overlap.
    """

    start_s: Floats
    duration_s: Floats
    resource: Ints
    resources: tuple[str, ...] = ("device",)

    @property
    def end_s(self) -> float:
        """When the last op ends, in seconds."""
        return float((self.start_s + self.duration_s).max(initial=0.0))


class Schedule(Protocol):
    """A way to place ops in time. `latency_s` and `runs` have shape (ops,)."""

    def __call__(self, latency_s: Floats, runs: Floats) -> Timeline: ...


def sequential(latency_s: Floats, runs: Floats) -> Timeline:
    """Run the ops one after another on one resource.

    start(i) = sum over j < i of runs(j) * latency(j): expected times, where ops are not certain to run.
    """
    duration = latency_s * runs
    start = np.zeros_like(duration)
    np.cumsum(duration[:-1], out=start[1:])
    return Timeline(start, duration, np.zeros(len(duration), dtype=np.int64))
