"""A device whose energy above idle takes the place of its time, so that what predicts one predicts the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from simulator.cost import Cost, HardwareModel
from simulator.graph import Graph
from simulator.work import Ints, Work


@dataclass(frozen=True)
class EnergyForTime:
    """`model` with latency_s = energy_j - static_w * latency_s of each op, in joules."""

    model: HardwareModel

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def static_w(self) -> float:
        return self.model.static_w

    @property
    def memory_bytes(self) -> float:
        return self.model.memory_bytes

    @property
    def assumptions(self) -> tuple[str, ...]:
        return self.model.assumptions

    @property
    def card(self) -> Mapping[str, object]:
        return self.model.card

    def price(self, work: Work) -> Cost:
        """Return the cost of `work` with joules above idle for its times."""
        cost = self.model.price(work)
        return replace(cost, latency_s=cost.energy_j - self.static_w * cost.latency_s)

    def workspace_bytes(self, graph: Graph) -> Ints:
        return self.model.workspace_bytes(graph)

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        return self.model.explain(work, row)
