"""Errors on what a fit has not seen: every network held out in turn, every fifth of the ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.calibration.baselines import NINE, PROPORTIONAL, Baseline, Trees
from analysis.calibration.choice import FOLDS, folds_of, parts_of
from analysis.calibration.fit import Terms, fit
from analysis.calibration.measured import Measured
from analysis.calibration.observed import observe
from analysis.calibration.parameters import Parameters
from simulator.cost import HardwareModel
from simulator.work import Floats, Ints

UNCALIBRATED = "uncalibrated"
CALIBRATED = "calibrated"


@dataclass(frozen=True)
class HeldOut:
    """What one measurement was predicted to be by fits that have not seen it. `predicted` are seconds by method."""

    of: Measured
    fold: int
    predicted: dict[str, float]

    @property
    def measured_s(self) -> float:
        return float(self.of.seconds)

    def error(self, method: str = CALIBRATED) -> float:
        """predicted / measured - 1."""
        return self.predicted[method] / self.measured_s - 1.0

    @property
    def log_error(self) -> float:
        """log predicted - log measured, of the calibrated device."""
        return float(np.log(self.predicted[CALIBRATED] / self.measured_s))


def hold_out(
    base: HardwareModel | Parameters,
    measured: Sequence[Measured],
    terms: Terms,
    baselines: Sequence[Baseline] = (),
    progress: Callable[[float], None] = lambda share: None,
) -> list[HeldOut]:
    """Return each measurement (of one point) with what fits without its fold predict, `terms` being chosen before.

    Folds are of whole networks where three were measured, of whole graphs where there are more, else a fifth of all.
    Ops are folded apart from steps, and ops stay in the fits that predict steps.
    """
    seen = observe(measured)
    folds = [fold for part in parts_of(seen) if len(part) >= FOLDS for fold in folds_of(seen, part)]
    analytic = base.base if isinstance(base, Parameters) else base
    known = fit(base, seen, terms=terms).spreads
    found: list[HeldOut] = []
    for number, out in enumerate(folds):
        train = [measured[i] for i in np.setdiff1d(np.arange(len(measured)), out)]
        fitted = fit(base, train, terms=terms, known=known)
        columns = {UNCALIBRATED: _on(analytic, measured, out), CALIBRATED: _on(fitted.model, measured, out)}
        steps = [one for one in train if one.work.row_of_op.size > 1]
        if not seen.is_op[out].any() and steps:
            for baseline in baselines:
                predictor = baseline.fit(steps)
                columns[baseline.name] = np.array([float(predictor.seconds(measured[i])[0]) for i in out])
        for place, i in enumerate(out.tolist()):
            found.append(HeldOut(measured[i], number, {name: float(c[place]) for name, c in columns.items()}))
        progress((number + 1) / len(folds))
    return found


def _on(model: HardwareModel, measured: Sequence[Measured], out: Ints) -> Floats:
    seen = observe([measured[i] for i in out])
    return seen.steps(model.price(seen.work))[0]


NETWORK_BASELINES: tuple[Baseline, ...] = (PROPORTIONAL, NINE, Trees())
