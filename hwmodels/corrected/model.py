"""A device model whose times are corrected by what was measured on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwmodels.corrected.correction import Correction
from hwmodels.wrapped import Wrapped
from simulator.cost import Cost, HardwareModel
from simulator.work import Floats, Work


@dataclass(frozen=True)
class Interval:
    """Where measured values lie beside predictions: between `low` and `high` times the prediction, in `coverage` of
    the cases that were held out (Vovk 2005: split conformal prediction, here of the ratio)."""

    coverage: float
    low: float
    high: float


@dataclass(frozen=True)
class Corrected(Wrapped):
    """`model` with latency' = latency * exp(g), g as `correction` says.

    Rails that flow as long as an op takes (`Cost.flowing`) follow the time, the energy of arithmetic and of bytes does
    not. `source` says what it was fitted to; `interval` holds for whole steps, None where too little was measured.
    """

    correction: Correction = field(hash=False)
    source: str
    interval: Interval | None = None

    @property
    def assumptions(self) -> tuple[str, ...]:
        return (f"times are corrected by {self.source}", *self.model.assumptions)

    @property
    def card(self) -> Mapping[str, Any]:
        return {**self.model.card, "calibration": self.source}

    def price(self, work: Work) -> Cost:
        """Return the cost of `work`, its times corrected."""
        cost = self.model.price(work)
        return corrected(cost, np.exp(self.correction.log_factor(work)), beside_s(self.model, work, cost))

    def outside(self, work: Work) -> dict[int, str]:
        """Return why rows of `work` are outside of what was measured, by row; nothing of those within."""
        return self.correction.outside(work)

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        factor = float(np.exp(self.correction.log_factor(work)[row]))
        latency = float(self.price(work).latency_s[row])
        return (
            *self.model.explain(work, row),
            ("corrected", f"x {factor:.4g} by {self.source}: latency {1e3 * latency:.6g} ms"),
        )


def beside_s(model: HardwareModel, work: Work, cost: Cost) -> Floats | float:
    """Return the part of each row's time that the framework takes in a step beside the op, of which an op measured
    alone says nothing; `cost` is that of `work`."""
    if not work.framework.any():
        return 0.0
    alone = model.price(replace(work, framework=np.zeros_like(work.framework)))
    found: Floats = cost.latency_s - alone.latency_s
    return found


def corrected(cost: Cost, factor: Floats, beside: Floats | float = 0.0) -> Cost:
    """Return `cost` with times multiplied by `factor`, but for the part `beside`; both of its columns' shape."""
    latency = (cost.latency_s - beside) * factor + beside
    ratio = np.divide(latency, cost.latency_s, out=np.ones_like(latency), where=cost.latency_s > 0)
    rails = {n: joules * ratio if n in cost.flowing else joules for n, joules in cost.rails.items()}
    change = sum((rails[n] - cost.rails[n] for n in cost.flowing if n in rails), np.zeros_like(cost.energy_j))
    return replace(
        cost,
        latency_s=latency,
        energy_j=cost.energy_j + change,
        seconds={name: seconds * ratio for name, seconds in cost.seconds.items()},
        rails=rails,
    )
