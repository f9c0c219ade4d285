"""The fit of a device to measurements: free numbers of its file, then log-factors on its prices.

    log time(point) = log step(device(numbers), times exp(g)) + noise
    coefficients of g = argmax of the posterior, by Gauss-Newton; priors by `evidence`

Relative errors count, outliers less: each point has the weight (v + 1) / (v + (r / noise)^2) of Student's t with v = 4
(Lange, Little & Taylor 1989). With few points priors decide and only what all have in common moves; the more points,
the more of class and shape. Whether the numbers are fitted too, and whether g may go by shape, is for held-out error to
say (`choice`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from analysis.calibration.basis import GROUPS, Basis, basis_of, ranges_of
from analysis.calibration.evidence import STEPS, Linear, Spreads, spreads
from analysis.calibration.measured import Measured
from analysis.calibration.numbers import Numbers, fit_numbers
from analysis.calibration.observed import Observed, observe
from analysis.calibration.parameters import Parameters
from hwmodels.corrected.correction import LARGEST, Correction
from hwmodels.corrected.model import Corrected, beside_s
from simulator.cost import Cost, HardwareModel
from simulator.errors import TrainwattError
from simulator.work import KERNELS, Floats

ROUNDS = 10
SETTLED = 1e-3
SHARES = (1.0, 0.5, 0.25, 0.1, 0.03)
"""Of a step that are tried until one helps."""
LONGEST = 2.0
"""Of a step in the log-factor of any op: beyond a factor of exp(2) the linear model of a sum says nothing."""
DEGREES = 4.0


@dataclass(frozen=True)
class Terms:
    """What a fit may move: the device's own numbers, and the groups of `basis.GROUPS`."""

    numbers: bool = True
    groups: tuple[str, ...] = GROUPS

    def __str__(self) -> str:
        parts = ["numbers of the device"] if self.numbers else []
        return ", ".join([*parts, *(f"factor by {group}" for group in self.groups)])


@dataclass(frozen=True)
class Fitted:
    """`model` is the fitted device; `numbers` its fitted numbers, None where they were left; `factor_errors` the
    standard errors of the log-factors by class; `spreads` what the data said of each kind of term; `terms` what was
    fitted."""

    model: Corrected
    numbers: Numbers | None
    factor_errors: Mapping[str, float]
    spreads: Mapping[str, float]
    terms: Terms

    @property
    def correction(self) -> Correction:
        """The correction of the model's prices."""
        return self.model.correction

    def seconds(self, measured: Measured | Sequence[Measured]) -> Floats:
        """Return the predicted time of every point, in order."""
        return seconds_on(self.model, measured)


def seconds_on(model: HardwareModel, measured: Measured | Sequence[Measured] | Observed) -> Floats:
    """Return the time of every point on a device, in order, shape (points,)."""
    seen = _observed(measured)
    return seen.steps(model.price(seen.work))[0]


def fit(
    base: HardwareModel | Parameters,
    measured: Sequence[Measured] | Observed,
    source: str = "measurements",
    terms: Terms | None = None,
    known: Mapping[str, float] | None = None,
) -> Fitted:
    """Fit a device to what was measured: its free numbers where `base` has them, and corrections of its prices.

    `source` is what the fitted device says it was fitted to; without `terms`, held-out error chooses them. `known` are
    spreads of a fit of the same terms to like data, which are then not asked of the data again. Raises `TrainwattError`
    where nothing was measured.
    """
    seen = _observed(measured)
    if terms is None:
        from analysis.calibration.choice import choose

        terms = choose(base, seen)
    numbers = fit_numbers(base, seen) if terms.numbers and isinstance(base, Parameters) else None
    model = numbers.model if numbers else base.base if isinstance(base, Parameters) else base
    return replace(_Factors(model, seen, terms).run(source, known), numbers=numbers)


def _observed(measured: Measured | Sequence[Measured] | Observed) -> Observed:
    if isinstance(measured, Observed):
        return measured
    listed = [measured] if isinstance(measured, Measured) else measured
    if not listed:
        raise TrainwattError("nothing to fit to; give measurements")
    return observe(listed)


def noise_names(seen: Observed) -> tuple[str, ...]:
    """Return what the noise of each point is called: steps have one, and so have the ops of each kernel class."""
    kernels = seen.work.kernel[seen.row[seen.start[:-1]]].tolist()
    return tuple(f"noise of {KERNELS[k]}" if op else STEPS for k, op in zip(kernels, seen.is_op.tolist(), strict=True))


class _Factors:
    """The fit of log-factors to points, on a device whose numbers stay."""

    def __init__(self, model: HardwareModel, seen: Observed, terms: Terms) -> None:
        self.seen, self.model, self.terms = seen, model, terms
        self.used = np.unique(seen.row)
        self.cost: Cost = model.price(seen.work)
        self.beside = beside_s(model, seen.work, self.cost)
        self.basis: Basis = basis_of(seen.work, self.used, terms.groups)
        self.group = tuple(GROUPS[code] for code in self.basis.group)
        self.log = np.log(seen.seconds)
        self.noise = noise_names(seen)

    def linearised(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the logarithm of the time of every point and its derivatives by `theta`, shape (points, terms)."""
        gains = np.clip(self.basis.columns @ theta, -LARGEST, LARGEST)
        time, share = self.seen.seconds_of(self.cost, gains, self.beside)
        return np.log(time), (share @ self.basis.columns) / time[:, None]

    def run(self, source: str, given: Mapping[str, float] | None) -> Fitted:
        theta, weight = np.zeros(len(self.group)), np.ones(len(self.log))
        log, jacobian = self.linearised(theta)
        known = None if given is None else Spreads(given)
        for round_ in range(ROUNDS):
            linear = Linear(
                jacobian,
                self.log - log + jacobian @ theta,
                self.group,
                weight,
                self.noise,
                self.seen.graph,
                self.log / np.log(2.0),
            )
            if known is None or (given is None and round_ in (2, 4)):
                known = spreads(linear, known)
            prior = np.array([known.of[name] ** 2 for name in self.group])
            factor = cho_factor(known.covariance(linear) + 1e-10 * np.eye(len(self.log)), lower=True)
            aim = prior * (jacobian.T @ cho_solve(factor, linear.target))
            longest = np.abs(self.basis.columns[self.used] @ (aim - theta)).max(initial=0.0)
            aim = theta + (aim - theta) * min(1.0, LONGEST / max(longest, LONGEST))
            theta, before = self._towards(theta, aim, known, linear, prior, log), log
            log, jacobian = self.linearised(theta)
            noise = known.noise(self.noise)
            weight = (DEGREES + 1.0) / (DEGREES + (self._beside_graph(log) / noise) ** 2)
            if round_ >= 4 and np.abs(log - before).max() < SETTLED:
                break
        scaled = jacobian * prior
        variance = prior - np.einsum("ij,ij->j", scaled, cho_solve(factor, scaled))
        errors = np.sqrt(np.maximum(variance, 0.0))[: len(self.basis.names)].tolist()
        correction = self.basis.correction(theta, ranges_of(self.seen.work, self.used))
        return Fitted(
            model=Corrected(self.model, correction, source),
            numbers=None,
            factor_errors=dict(zip(self.basis.names, errors, strict=True)),
            spreads=dict(known.of),
            terms=self.terms,
        )

    def _beside_graph(self, log: Floats) -> Floats:
        """Return what is left of each point beside what its graph has in common: that is no outlier's."""
        left = self.log - log
        for code in np.unique(self.seen.graph[~self.seen.is_op]):
            own = (self.seen.graph == code) & ~self.seen.is_op
            left[own] -= np.median(left[own]) if own.sum() > 2 else 0.0
        return left

    def _towards(
        self, theta: Floats, aim: Floats, known: Spreads, linear: Linear, prior: Floats, log: Floats
    ) -> Floats:
        """Return `theta` moved towards `aim` as far as it makes it more probable; `log` are the times at `theta`."""
        errors = known.errors(linear)
        alone = "graph" not in known.of  # then the errors of no two points go together
        factor = None if alone else cho_factor(errors + 1e-10 * np.eye(len(self.log)), lower=True)

        def loss(at: Floats, there: Floats) -> float:
            left = self.log - there
            weighted = left / np.diag(errors) if factor is None else cho_solve(factor, left)
            return float(left @ weighted + (at**2 / prior).sum())

        start = loss(theta, log)
        for share in SHARES:
            there = theta + share * (aim - theta)
            if loss(there, self.linearised(there)[0]) < start:
                return there
        return theta
