"""A device whose idle power does not count: what training costs on top of a board that is switched on anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from hwmodels.wrapped import Wrapped
from simulator.cost import Cost
from simulator.units import show
from simulator.work import Work


@dataclass(frozen=True)
class AboveIdle(Wrapped):
    """`model` with energy' = energy - static power * time, and the same of waiting; all else is as `model` says."""

    @property
    def static_w(self) -> float:
        return 0.0

    @property
    def assumptions(self) -> tuple[str, ...]:
        return (*self.model.assumptions, f"energy is above idle: {self._subtracted} of static power are subtracted")

    @property
    def card(self) -> Mapping[str, Any]:
        card = self.model.card
        return {**card, "energy_scope": f"{card['energy_scope']}; above idle, {self._subtracted} subtracted"}

    @property
    def _subtracted(self) -> str:
        return show(self.model.static_w, "W")

    def price(self, work: Work) -> Cost:
        """Return the cost of `work` on the device, with the energy above idle."""
        cost = self.model.price(work)
        idle = cost.latency_s * self.model.static_w
        return replace(
            cost,
            energy_j=np.maximum(cost.energy_j - idle, 0.0),
            waiting_w=max(cost.waiting_w - self.model.static_w, 0.0),
            rails={**cost.rails, "idle subtracted": -idle} if cost.rails else {},
        )

    @property
    def interval(self) -> object:
        """The prediction interval of the device's times, where it is calibrated."""
        return getattr(self.model, "interval", None)

    def outside(self, work: Work) -> dict[int, str]:
        """Return what of `work` is outside of what was measured, where the device is calibrated."""
        found = getattr(self.model, "outside", None)
        return {} if found is None else cast(dict[int, str], found(work))

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        return (*self.model.explain(work, row), ("above idle", f"less {self._subtracted} x latency"))
