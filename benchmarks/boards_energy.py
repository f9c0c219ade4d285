"""A device whose energy above idle takes the place of its time, so that what predicts one predicts the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwmodels.wrapped import Wrapped
from simulator.cost import Cost
from simulator.work import Work


@dataclass(frozen=True)
class EnergyForTime(Wrapped):
    """`model` with latency_s = energy_j - static_w * latency_s of each op, in joules."""

    def price(self, work: Work) -> Cost:
        """Return the cost of `work` with joules above idle for its times."""
        cost = self.model.price(work)
        return replace(cost, latency_s=cost.energy_j - self.static_w * cost.latency_s)
