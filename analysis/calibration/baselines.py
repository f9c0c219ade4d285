"""What a calibrated model is held against: simpler predictors of the time of a step, fitted to the same measurements.

    uncalibrated        the device model as it is
    MACs                t = a * MACs
    nine coefficients   t = sum of a_i * x_i, the x_i of `nine`
    trees               300 extremely randomised trees on 56 sums over convolutions (`summed_features`), the published
                        way [Rajagopal and Bouganis, perf4sight, 2021]; of least squared seconds

No coefficient is negative, and they minimise the sum of squared relative errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from analysis.calibration.measured import Measured
from analysis.calibration.summed_features import summed_features
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.schedule import timeline
from simulator.work import KERNELS, Floats, Work

_CONVOLUTION, _DEPTHWISE = KERNELS.index("convolution"), KERNELS.index("depthwise")
_NORM_OR_POOL = (KERNELS.index("norm"), KERNELS.index("pool"))
_TREES = 300


class Predictor(Protocol):
    """Tells how long steps take."""

    def seconds(self, measured: Measured) -> Floats:
        """Return the predicted time of each point, shape (points,); the measured times are not looked at."""


class Baseline(Protocol):
    """A way to predict that can be fitted."""

    @property
    def name(self) -> str: ...

    def fit(self, measured: Sequence[Measured]) -> Predictor:
        """Return what predicts after these measurements. Raises `TrainwattError` where it needs some and has none."""


@dataclass(frozen=True)
class Uncalibrated:
    """The device model as it is; its own predictor."""

    model: HardwareModel
    name: str = "uncalibrated"

    def fit(self, measured: Sequence[Measured]) -> Uncalibrated:
        return self

    def seconds(self, measured: Measured) -> Floats:
        work = measured.work
        placed = timeline(self.model.price(work), work.row_of_op, work.runs)
        return np.atleast_1d((placed.start_s + placed.duration_s)[-1])


@dataclass(frozen=True)
class Sum:
    """Time as a sum of products: `features` of work, shape (points, features), each times its coefficient."""

    features: Callable[[Work], Floats]
    coefficients: Floats

    def seconds(self, measured: Measured) -> Floats:
        found: Floats = self.features(_columns(measured.work)) @ self.coefficients
        return found


@dataclass(frozen=True)
class NonNegative:
    """Coefficients of features, none negative, that minimise the sum of squared relative errors."""

    name: str
    features: Callable[[Work], Floats]

    def fit(self, measured: Sequence[Measured]) -> Sum:
        from scipy.optimize import nnls

        relative = _table(self.features, measured) / _seconds(measured)[:, None]
        scale = np.maximum(np.linalg.norm(relative, axis=0), np.finfo(float).tiny)
        found, _ = nnls(relative / scale, np.ones(len(relative)))
        return Sum(self.features, np.where(scale > np.finfo(float).tiny, found / scale, 0.0))


@dataclass(frozen=True)
class Forest:
    """Fitted trees on `summed_features`."""

    trees: Any

    def seconds(self, measured: Measured) -> Floats:
        return np.asarray(self.trees.predict(summed_features(_columns(measured.work))), dtype=np.float64)


@dataclass(frozen=True)
class Trees:
    """Extremely randomised trees on summed features of convolutions; `seed` is what they draw from."""

    name: str = "trees"
    seed: int = 0

    def fit(self, measured: Sequence[Measured]) -> Forest:
        from sklearn.ensemble import ExtraTreesRegressor

        table = _table(summed_features, measured)
        return Forest(ExtraTreesRegressor(_TREES, random_state=self.seed).fit(table, _seconds(measured)))


def macs(work: Work) -> Floats:
    """Return the MACs of a step, shape (points, 1)."""
    found: Floats = np.asarray(work.total(work.macs))[:, None]
    return found


def nine(work: Work) -> Floats:
    """Return what the nine coefficients multiply, shape (points, 9): one for the step; launched kernels; MACs of
    convolutions of several taps, of one tap, depthwise, of all other products; bytes of convolutions, of norms and
    pools, of all else.
    """
    depthwise, dense = work.kernel == _DEPTHWISE, work.kernel == _CONVOLUTION
    alone = (work.nest["r"] * work.nest["s"] == 1).all(axis=1)
    norm = np.isin(work.kernel, _NORM_OR_POOL)
    convolution = depthwise | dense
    multiplied = [work.macs * rows[:, None] for rows in (dense & ~alone, dense & alone, depthwise, ~convolution)]
    moved = [work.traffic_bytes * rows[:, None] for rows in (convolution, norm, ~(convolution | norm))]
    launched = np.broadcast_to(work.launches[:, None], work.macs.shape)
    sums = [work.total(column) for column in (launched, *multiplied, *moved)]
    return np.stack([np.ones_like(sums[0]), *sums], axis=1)


PROPORTIONAL = NonNegative("MACs", macs)
NINE = NonNegative("nine coefficients", nine)


def baselines(model: HardwareModel) -> tuple[Baseline, ...]:
    """Return all baselines, for a device."""
    return Uncalibrated(model), PROPORTIONAL, NINE, Trees()


def _columns(work: Work) -> Work:
    """Return work with a column for each point, also where there is one."""
    if work.macs.ndim == 2:
        return work
    columns = {name: getattr(work, name)[:, None] for name in ("macs", "flops", "read_bytes", "written_bytes")}
    return replace(work, **columns, nest={name: column[:, None] for name, column in work.nest.items()})


def _table(features: Callable[[Work], Floats], measured: Sequence[Measured]) -> Floats:
    if not measured:
        raise TrainwattError("no measurements to fit to; give at least one")
    return np.concatenate([features(_columns(one.work)) for one in measured])


def _seconds(measured: Sequence[Measured]) -> Floats:
    return np.concatenate([np.atleast_1d(one.seconds) for one in measured])
