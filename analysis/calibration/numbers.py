"""The fit of a device's own numbers, as far as measurements say something of them.

    minimise sum over points of rho((log measured - log predicted - a) / s) + sum of (log-change / spread)^2 + a^2

rho: soft L1; s: what the model is off by anyway, larger where many sizes of one graph were measured, whose errors go
together; a: what all points have in common, which is left to the factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from analysis.calibration.observed import Observed
from analysis.calibration.parameters import Parameters, sensitive
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.work import Floats

MODEL_ERROR = 0.08
"""Relative error of an analytic model with the best of numbers."""
ALIKE = 0.5
"""Correlation between the errors of two sizes of one graph."""
STEP = 0.05
"""Of a log-change, in prior standard deviations: tiles and algorithms are chosen anew, so not too small."""
MOST_STEPS = 25
IMPOSSIBLE = 1e3


@dataclass(frozen=True)
class Numbers:
    """`values` by path in the units of the file, `errors` the standard errors of their logarithms, and the device."""

    values: Mapping[str, float]
    errors: Mapping[str, float]
    model: HardwareModel


def fit_numbers(base: Parameters, seen: Observed) -> Numbers:
    """Return the free numbers of a device as the points say; those that change none of them stay."""
    free = sensitive(base, seen.work)
    if not free.paths:
        return Numbers({}, {}, base.base)
    log = np.log(seen.seconds)
    of_graph = np.bincount(seen.graph)[seen.graph]
    scale = MODEL_ERROR * np.sqrt(1.0 + ALIKE * (of_graph - 1.0))

    def values(changes: Floats) -> Floats:
        return np.clip(free.start * np.exp(changes * free.spread), free.least, free.largest)

    def misses(x: Floats) -> Floats:
        # From 1, not 0, so that relative steps of the solver are steps.
        try:
            device = free.device(values(x[:-1] - 1.0))
        except TrainwattError:
            return np.full(len(log) + len(x), IMPOSSIBLE)  # numbers that do not go together
        time = seen.steps(device.price(seen.work))[0]
        return np.concatenate([(log - np.log(time) - (x[-1] - 1.0)) / scale, x - 1.0])

    low = np.append(np.log(free.least / free.start) / free.spread, -10.0) - 1e-9
    high = np.append(np.log(free.largest / free.start) / free.spread, 10.0) + 1e-9
    found = least_squares(
        misses,
        np.ones(len(free.paths) + 1),
        bounds=(1.0 + low, 1.0 + high),
        loss="soft_l1",
        diff_step=STEP,
        max_nfev=MOST_STEPS,
    )
    spread = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)))[:-1] * free.spread
    chosen = values(found.x[:-1] - 1.0)
    return Numbers(
        dict(zip(free.paths, chosen.tolist(), strict=True)),
        dict(zip(free.paths, spread.tolist(), strict=True)),
        free.device(chosen),
    )
