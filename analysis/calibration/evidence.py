"""How far each kind of term may go: standard deviations of priors and noise by the evidence of the data.

    z ~ N(0, S),  S = sum over groups of sd^2 J J' + noise^2 / weight + graph^2 G + size^2 G exp(-d^2 / 2)
    log evidence = -1/2 z' S^-1 z - 1/2 log |S| + log-normal hyperpriors

(MacKay 1992, type II maximum likelihood). Errors of one graph at several sizes go together, more so at like sizes,
which G (1 for two points of one graph, else 0) and d (their distance in time, in octaves) grant: else many sizes of few
graphs would pass for many graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from simulator.work import Floats, Ints

TYPICAL: Mapping[str, float] = {
    "overall": 1.0,
    "kernel class": 0.3,
    "class": 0.2,
    "shape, wide": 0.3,
    "shape, narrow": 0.15,
    "noise of ops": 0.1,
    "noise of steps": 0.03,
    "graph": 0.07,
    "size": 0.03,
}
"""Medians of the hyperpriors, in logarithms: what analytic models of devices are off by."""
DOUBT = 0.7
"""Standard deviation of the logarithm of each of them."""
MOST_POINTS = 500
"""The evidence is taken of at most so many points, drawn evenly: it costs their cube."""
MOST_STEPS = 60


@dataclass(frozen=True)
class Spreads:
    """Standard deviations by name, those of `TYPICAL` that the data have."""

    of: Mapping[str, float]

    def covariance(self, linear: Linear) -> Floats:
        """Return S of a linear problem, shape (points, points)."""
        return sum((self.of.get(name, 0.0) ** 2 * part for name, part in linear.parts().items()), np.zeros(()))

    def noise(self, is_op: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
        """Return the standard deviation of the noise of every point."""
        return np.where(is_op, self.of.get("noise of ops", 1.0), self.of.get("noise of steps", 1.0))

    def errors(self, linear: Linear) -> Floats:
        """Return that part of S which no term explains: noise, and what the points of a graph have in common."""
        parts = linear.parts()
        of_terms = set(linear.group)
        return sum((self.of.get(n, 0.0) ** 2 * part for n, part in parts.items() if n not in of_terms), np.zeros(()))


@dataclass(frozen=True)
class Linear:
    """z = J theta + noise: `jacobian` (points, terms), `target` (points,), `group` names of the terms' groups, `weight`
    (points,) of each point, `is_op` and `graph` as in `Observed`, `octave` (points,) the logarithm of the time."""

    jacobian: Floats
    target: Floats
    group: tuple[str, ...]
    weight: Floats
    is_op: np.ndarray[tuple[int], np.dtype[np.bool_]]
    graph: Ints
    octave: Floats

    def names(self) -> list[str]:
        """Return the standard deviations that this problem has."""
        found = list(dict.fromkeys(self.group))
        found += ["noise of ops"] if self.is_op.any() else []
        found += ["noise of steps"] if (~self.is_op).any() else []
        graphs, sizes = np.unique(self.graph[~self.is_op], return_counts=True)
        return found + (["graph", "size"] if len(graphs) > 2 and sizes.max() > 1 else [])

    def parts(self) -> dict[str, Floats]:
        """Return what each of them, squared, is multiplied with in S."""
        groups = np.array(self.group)
        steps = ~self.is_op
        same = (np.equal.outer(self.graph, self.graph) & np.outer(steps, steps)).astype(np.float64)
        made: dict[str, Floats] = {}
        for name in self.names():
            if name in self.group:
                of = self.jacobian[:, groups == name]
                made[name] = of @ of.T
            elif name == "graph":
                made[name] = same
            elif name == "size":
                made[name] = same * np.exp(-(np.subtract.outer(self.octave, self.octave) ** 2) / 2.0)
            else:
                noisy = self.is_op if name == "noise of ops" else ~self.is_op
                made[name] = np.diag(noisy / self.weight)
        return made

    def some(self, most: int) -> Linear:
        """Return at most so many of the points, evenly over their order."""
        if len(self.target) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.target) - 1, most).round().astype(np.int64))
        columns = (self.weight[kept], self.is_op[kept], self.graph[kept], self.octave[kept])
        return Linear(self.jacobian[kept], self.target[kept], self.group, *columns)


def spreads(linear: Linear, start: Spreads | None = None) -> Spreads:
    """Return the standard deviations of most evidence, beginning at `start` or at what is typical."""
    few = linear.some(MOST_POINTS)
    names, parts = few.names(), few.parts()
    free = [name for name in names if name not in FIXED]
    matrices = np.stack([parts[name] for name in free])
    fixed = sum((TYPICAL[n] ** 2 * parts[n] for n in names if n in FIXED), np.zeros(len(few.target)))
    typical = np.log([TYPICAL[name] for name in free])
    first = np.log([start.of[name] for name in free]) if start else typical

    def loss(logs: Floats) -> tuple[float, Floats]:
        squares = np.exp(2.0 * logs)
        covariance = fixed + np.tensordot(squares, matrices, 1) + 1e-9 * np.eye(len(few.target))
        factor = cho_factor(covariance, lower=True)
        solved = cho_solve(factor, few.target)
        inverse = cho_solve(factor, np.eye(len(few.target)))
        value = (
            0.5 * few.target @ solved
            + np.log(np.diag(factor[0])).sum()
            + ((logs - typical) ** 2).sum() / (2.0 * DOUBT**2)
        )
        gap = inverse - np.outer(solved, solved)
        slope = squares * np.tensordot(matrices, gap, 2) + (logs - typical) / DOUBT**2
        return float(value), slope

    bounds = [(t - 4.0, t + 3.0) for t in typical]
    best = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MOST_STEPS}).x
    found = dict(zip(free, np.exp(best).tolist(), strict=True))
    return Spreads({name: found.get(name, TYPICAL[name]) for name in names})


FIXED = ("overall",)
"""A single coefficient tells nothing of its own spread."""
