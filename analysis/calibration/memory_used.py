"""What the system counts as used memory while a network trains, from some measured steps of it, for others of it.

    used = clip((a + b * allocated) * exp(f(x) + h), floor, ceiling)

`allocated` is the replayed peak, a what the framework and the driver hold besides; x are the logarithms of allocated
bytes and of parameters, f is smooth, h belongs to one graph (its structure may be known wrongly) and is nought for a
graph never seen. Floor and ceiling are flat ends of the measured points: below, starting up takes more than the step;
above, the system takes from elsewhere. Points in them say nothing of f but on which side it is.

f and h are Gaussian processes, Matern 5/2; their spreads and lengths are those of most evidence under log-normal
hyperpriors [Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, eq. 2.25, 4.17, 5.8].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize, nnls

from simulator.errors import TrainwattError
from simulator.work import Flags, Floats, Ints

_TYPICAL = np.log([0.1, 0.05, 0.02, 2.0, 2.0, 2.0])
"""Medians of the hyperpriors: spreads of f, h and noise in logarithms of used memory; lengths of f along allocated
bytes and parameters, of h along allocated bytes, in octaves."""
_DOUBT = 1.0
"""Standard deviation of the logarithm of each of them."""
_FLAT, _APART = 1.01, 1.1
"""An end is flat where points within this factor of it differ by that in what is allocated."""


@dataclass(frozen=True)
class Steps:
    """Training steps as the model sees them, each array of shape (steps,): replayed peak and parameters in bytes, and a
    number for each graph.

    Raises `TrainwattError` on construction where shapes differ or a size is not above 0.
    """

    allocated_bytes: Floats
    parameter_bytes: Floats
    graph: Ints

    def __post_init__(self) -> None:
        if not self.allocated_bytes.shape == self.parameter_bytes.shape == self.graph.shape:
            raise TrainwattError(
                f"{self.allocated_bytes.size} allocated peaks, {self.parameter_bytes.size} sizes of parameters and "
                f"{self.graph.size} graphs; give one of each a step"
            )
        if not ((self.allocated_bytes > 0).all() and (self.parameter_bytes > 0).all()):
            raise TrainwattError("a step that allocates nothing; leave it out")

    def some(self, kept: Flags) -> Steps:
        """Return some of the steps."""
        return Steps(self.allocated_bytes[kept], self.parameter_bytes[kept], self.graph[kept])

    @property
    def octaves(self) -> Floats:
        """The coordinates of f, shape (steps, 2)."""
        found: Floats = np.log2(np.stack([self.allocated_bytes, self.parameter_bytes], axis=1))
        return found


@dataclass(frozen=True)
class MemoryUsed:
    """A fitted model: coefficients of the line, the points of f with their weights, its spread and lengths, and the
    limits (0 and infinite where none was seen)."""

    line: Floats
    points: Floats
    weights: Floats
    spread: float
    lengths: Floats
    floor_bytes: float = 0.0
    ceiling_bytes: float = np.inf

    def bytes(self, steps: Steps) -> Floats:
        """Return the memory that each step is expected to use, shape (steps,)."""
        smooth = self.spread**2 * _matern(steps.octaves, self.points, self.lengths) @ self.weights
        used = _along(self.line, steps) * np.exp(smooth)
        return np.clip(used, self.floor_bytes, self.ceiling_bytes)


def fit_memory_used(steps: Steps, used_bytes: Floats) -> MemoryUsed:
    """Return the model of some measured steps of one network, shape (steps,).

    Raises `TrainwattError` where a measured value is not a finite number above 0, or fewer than two differ from the
    limits.
    """
    if used_bytes.shape != steps.graph.shape or not (np.isfinite(used_bytes) & (used_bytes > 0)).all():
        raise TrainwattError("used memory that is no finite number above 0 for each step; leave such steps out")
    low = used_bytes <= _FLAT * used_bytes.min(initial=np.inf)
    high = used_bytes >= used_bytes.max(initial=0.0) / _FLAT
    low, high = (end & _is_flat(steps.allocated_bytes[end]) for end in (low, high))
    within = ~(low | high)
    if within.sum() < 2:
        raise TrainwattError(f"{within.sum()} steps between the limits of used memory; measure at least two")
    found = _between(steps.some(within), used_bytes[within])
    guess = found.bytes(steps)
    # A step in a limit is one more point where the fit has it on the wrong side.
    wrong = (low & (guess > used_bytes)) | (high & (guess < used_bytes))
    if wrong.any():
        found = _between(steps.some(within | wrong), used_bytes[within | wrong])
    floor = float(used_bytes.min()) if low.any() else 0.0
    return replace(found, floor_bytes=floor, ceiling_bytes=float(used_bytes.max()) if high.any() else np.inf)


def _is_flat(allocated: Floats) -> bool:
    return bool(allocated.size > 1 and allocated.max() > _APART * allocated.min())


def _along(line: Floats, steps: Steps) -> Floats:
    found: Floats = line[0] + line[1] * steps.allocated_bytes
    return found


def _between(steps: Steps, used: Floats) -> MemoryUsed:
    """Fit without limits."""
    columns = np.stack([np.ones_like(used), steps.allocated_bytes], axis=1) / used[:, None]
    scale = np.linalg.norm(columns, axis=0)
    line = nnls(columns / scale, np.ones_like(used))[0] / scale
    target = np.log(used / _along(line, steps))
    octaves = steps.octaves
    same = np.equal.outer(steps.graph, steps.graph)

    def covariance(logs: Floats) -> Floats:
        f, h, noise, *lengths = np.exp(logs)
        smooth = f**2 * _matern(octaves, octaves, np.array(lengths[:2]))
        of_graph = h**2 * same * _matern(octaves[:, :1], octaves[:, :1], np.array(lengths[2:]))
        found: Floats = smooth + of_graph + noise**2 * np.eye(len(target))
        return found

    def loss(logs: Floats) -> float:
        factor = cho_factor(covariance(logs), lower=True)
        likely = 0.5 * target @ cho_solve(factor, target) + np.log(np.diag(factor[0])).sum()
        return float(likely + ((logs - _TYPICAL) ** 2).sum() / (2.0 * _DOUBT**2))

    bounds = [(typical - 3.0, typical + 3.0) for typical in _TYPICAL]
    best = minimize(loss, _TYPICAL, method="L-BFGS-B", bounds=bounds).x
    weights = cho_solve(cho_factor(covariance(best), lower=True), target)
    return MemoryUsed(line, octaves, weights, float(np.exp(best[0])), np.exp(best[3:5]))


def _matern(left: Floats, right: Floats, lengths: Floats) -> Floats:
    """Return the Matern 5/2 correlation of all pairs of points, shape (left, right)."""
    apart = np.sqrt(5.0 * (((left[:, None] - right[None]) / lengths) ** 2).sum(axis=2))
    found: Floats = (1.0 + apart + apart**2 / 3.0) * np.exp(-apart)
    return found
