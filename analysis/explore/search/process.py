"""A Gaussian process over the points of a space: what a column will be where it has not been priced, and how surely.

    k(p, q) = prod over axes of (1 + sum over the axis' attributes a of s_a * k_a(p, q)) / (1 + sum of s_a)
    k_a     = [codes are equal] * exp(-(difference of places)^2 / (2 * 0.5^2))

The product holds every interaction of axes, and the ones in it the sums: the logarithm of a time is nearly a sum of
what network, technique, device and batch size contribute. The weights s_a are those under which what is known is most
likely, with a normal prior on their logarithms (Rasmussen, Williams, "Gaussian Processes for Machine Learning", 2006,
eq. 2.25, 2.26, 5.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from analysis.explore.search.axes import Attribute, Axes
from simulator.work import Floats, Ints

_LENGTH = 0.5
_START, _LEAST, _MOST = -1.5, -5.0, 4.0
"""Logarithms of the weights: where the fit begins, and its bounds."""

_PRIOR = 1.0
"""Standard deviation of the logarithms of the weights around where they begin, which keeps them from their bounds."""

_NOISE_START, _NOISE_LEAST, _NOISE_MOST = -10.0, -18.0, -4.0
"""Logarithms of the noise (what the kernel cannot express) relative to the variance."""

_ROUNDS = 8
"""Rounds of the fit; what more of them change is below the spread of the search itself."""


@dataclass(frozen=True)
class Fitted:
    """A process fitted to values at `levels`, shape (points, 4)."""

    kernel: Kernel
    levels: Ints
    mean: float
    deviation: float
    lower: Floats
    weights: Floats

    def predict(self, levels: Ints) -> tuple[Floats, Floats]:
        """Return expected values and standard deviations at `levels`, shape (points, 4)."""
        across = self.kernel(levels, self.levels)
        left = solve_triangular(self.lower, across.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - (left * left).sum(axis=0), 1e-12)
        return self.mean + across @ self.weights, self.deviation * np.sqrt(variance)


class Kernel:
    """The covariance of points, of variance 1, under the logarithms of attribute weights."""

    def __init__(self, attributes: tuple[Attribute, ...], logarithms: Floats) -> None:
        self.attributes, self.logarithms = attributes, logarithms

    def __call__(self, left: Ints, right: Ints) -> Floats:
        """Return the covariance of every point of `left` with every one of `right`, shape (left, right)."""
        found = np.ones((len(left), len(right)))
        for axis in range(left.shape[1]):
            rows, row = np.unique(left[:, axis], return_inverse=True)
            columns, column = np.unique(right[:, axis], return_inverse=True)
            found *= self._axis(axis, rows, columns)[row.reshape(-1)][:, column.reshape(-1)]
        return found

    def _axis(self, axis: int, rows: Ints, columns: Ints) -> Floats:
        found, most = np.ones((len(rows), len(columns))), 1.0
        for attribute, logarithm in zip(self.attributes, self.logarithms, strict=True):
            if attribute.axis != axis:
                continue
            alike = (attribute.codes[rows][:, None] == attribute.codes[columns][None, :]).astype(np.float64)
            if attribute.places is not None:
                apart = attribute.places[rows][:, None] - attribute.places[columns][None, :]
                alike *= np.exp(-0.5 * (apart / _LENGTH) ** 2)
            found += np.exp(logarithm) * alike
            most += np.exp(logarithm)
        return found / most


def weights(axes: Axes, levels: Ints, values: Floats) -> Floats:
    """Return the logarithms of attribute weights, and of the noise in the end, that make `values` most likely."""
    count = len(axes.attributes)
    start = np.append(np.full(count, _START), _NOISE_START)
    bounds = [(_LEAST, _MOST)] * count + [(_NOISE_LEAST, _NOISE_MOST)]

    def surprise(logarithms: Floats) -> float:
        """Return the negative logarithm of the likelihood, up to a constant, with the best scale."""
        found = fitted(axes, levels, values, logarithms)
        prior = float((((logarithms[:-1] - _START) / _PRIOR) ** 2).sum()) / 2
        return len(values) * float(np.log(found.deviation)) + float(np.log(np.diag(found.lower)).sum()) + prior

    return np.asarray(
        minimize(surprise, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ROUNDS}).x, dtype=np.float64
    )


def fitted(axes: Axes, levels: Ints, values: Floats, logarithms: Floats) -> Fitted:
    """Return the process through `values`, shape (points,), under weights as `weights` returns them."""
    kernel = Kernel(axes.attributes, logarithms[:-1])
    mean = float(values.mean())
    covariance = kernel(levels, levels)
    covariance[np.diag_indices(len(covariance))] += np.exp(logarithms[-1])
    lower = cholesky(covariance, lower=True, check_finite=False)
    solved = cho_solve((lower, True), values - mean, check_finite=False)
    deviation = float(np.sqrt(max((values - mean) @ solved / len(values), 1e-30)))
    return Fitted(kernel, levels, mean, deviation, lower, solved)
