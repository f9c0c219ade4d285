"""The fit of a device's powers and energies to measured joules: non-negative least squares of relative errors.

Energy is a sum of products (static power and time, energy per FLOP and FLOPs, energy per byte and bytes, ...), so with
multipliers m on the numbers of the file

    E(point) = sum over numbers j of m_j E_j(point),   E_j = E(number j doubled) - E
    minimise sum over points of ((E - measured) / measured / s)^2 + sum over j of ((m_j - 1) / spread_j)^2,  0 <= m <= 8

after Lawson and Hanson, "Solving Least Squares Problems", 1974 (with bounds: Stark and Parker, BVLS, 1995). What a
datasheet says or somebody measured stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from analysis.calibration.measured import Measured
from analysis.calibration.observed import Observed, observe
from analysis.calibration.parameters import TABLES_OF_ENERGY, entries, number_in, with_values
from hwmodels.above_idle import AboveIdle
from hwmodels.device import build
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.work import Floats

POINT_ERROR = 0.05
"""Relative error of a measured energy beside the model's."""
SPREAD_OF = {"assumed": 0.7, "fitted": 0.4}
LARGEST = 8.0
LINEAR = 1e-6


@dataclass(frozen=True)
class Energies:
    """`values` by path in the units of the file, `errors` their standard errors relative to the values of before."""

    values: Mapping[str, float]
    errors: Mapping[str, float]


def fit_energies(
    name: str, data: Mapping[str, Any], mode: str, measured: Sequence[Measured], *, above_idle: bool
) -> Energies:
    """Return the powers and energies of a device file as measured joules say.

    `measured` hold joules for seconds, idle power included or subtracted (`above_idle`); `data` has the corrections of
    times that were fitted before. Raises `TrainwattError` where nothing was measured.
    """
    if not measured:
        raise TrainwattError("no measured energy to fit to; give rows of energy")
    seen = observe(measured)
    joules = seen.seconds
    paths, columns, spread = [], [], []

    def of(values: Mapping[str, float]) -> Floats:
        model = build(name, with_values(data, values), mode)
        return energy_on(AboveIdle(model) if above_idle else model, seen)

    whole = of({})
    for path, entry in entries(data):
        value = number_in(entry["value"])
        if entry["kind"] not in SPREAD_OF or path.split(".")[0] not in TABLES_OF_ENERGY or value <= 0:
            continue
        part = of({path: 2.0 * value}) - whole
        if (np.abs(part) > LINEAR * whole).any() and np.allclose(
            of({path: 0.5 * value}), whole - part / 2, rtol=LINEAR
        ):
            paths.append((path, value))
            columns.append(part)
            spread.append(SPREAD_OF[entry["kind"]])
    if not paths:
        return Energies({}, {})
    parts, priors = np.column_stack(columns), np.array(spread)
    rest = whole - parts.sum(axis=1)
    rows = parts / joules[:, None] / POINT_ERROR
    target = (joules - rest) / joules / POINT_ERROR
    system = np.vstack([rows, np.diag(1.0 / priors)])
    found = lsq_linear(system, np.concatenate([target, 1.0 / priors]), bounds=(0.0, LARGEST))
    error = np.sqrt(np.diag(np.linalg.inv(system.T @ system)))
    return Energies(
        {path: float(value * m) for (path, value), m in zip(paths, found.x, strict=True)},
        {path: float(e) for (path, _), e in zip(paths, error, strict=True)},
    )


def energy_on(model: HardwareModel, seen: Observed) -> Floats:
    """Return the energy of every point on a device in joules, shape (points,)."""
    cost = model.price(seen.work)
    energy = seen.steps(replace(cost, dispatch_s=None, latency_s=cost.energy_j))[0]  # a sum over ops like that of times
    if cost.dispatch_s is None:
        return energy
    step = seen.steps(cost)[0]
    executed = seen.steps(replace(cost, dispatch_s=None))[0]
    return energy + cost.waiting_w * np.maximum(step - executed, 0.0)
