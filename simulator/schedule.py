"""When each op runs: op costs become a timeline on the device's resources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.cost import Cost
from simulator.work import Floats, Ints


@dataclass(frozen=True)
class Timeline:
    """Start and duration of every op in seconds, shape (ops,) or (ops, points).

    `resource`, shape (ops,), holds codes into `resources`. Ops on one resource do not overlap. `step_s` is how much
    later the step is done with an op than without it, its own part of the step's time: these add up to the end. Where
    a host dispatches the ops, `host_s` is when it is done with each, counted from the start of the step.
    """

    start_s: Floats
    duration_s: Floats
    resource: Ints
    resources: tuple[str, ...] = ("device",)
    host_s: Floats | None = None

    @property
    def step_s(self) -> Floats:
        """The part of the step's time that each op accounts for, shape (ops,) or (ops, points)."""
        return np.diff(self.start_s + self.duration_s, axis=0, prepend=0.0)

    @property
    def end_s(self) -> float:
        """When the last op ends, in seconds."""
        return float((self.start_s + self.duration_s).max(initial=0.0))


def timeline(cost: Cost, row_of_op: Ints, runs: Floats) -> Timeline:
    """Place the ops, whose costs are rows `row_of_op` of `cost`, in time; expected times where runs are below one."""
    times = runs if cost.latency_s.ndim == 1 else runs[:, None]
    latency = cost.latency_s[row_of_op] * times
    if cost.dispatch_s is None:
        return sequential(latency)
    return dispatched(latency, cost.dispatch_s[row_of_op] * times)


def sequential(duration_s: Floats) -> Timeline:
    """Run the ops one after another on one resource.

    start(i) = sum over j < i of duration(j)
    """
    start = np.zeros_like(duration_s)
    np.cumsum(duration_s[:-1], axis=0, out=start[1:])
    return Timeline(start, duration_s, np.zeros(len(duration_s), dtype=np.int64))


def dispatched(duration_s: Floats, dispatch_s: Floats) -> Timeline:
    """Let a host dispatch the ops one after another to a queue that executes them in order.

    host(i)  = host(i-1) + dispatch(i)
    start(i) = max(end(i-1), host(i)),  end(i) = start(i) + duration(i)

    so that end(i) = E(i) + max over j <= i of (host(j) - E(j-1)), with E the running sum of durations.
    """
    host = np.cumsum(dispatch_s, axis=0)
    executed = np.cumsum(duration_s, axis=0)
    end = executed + np.maximum.accumulate(host - (executed - duration_s), axis=0)
    return Timeline(end - duration_s, duration_s, np.zeros(len(duration_s), dtype=np.int64), host_s=host)
