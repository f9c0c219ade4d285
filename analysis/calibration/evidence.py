"""How far each kind of term may go: standard deviations of priors and noise by the evidence of the data.

    z ~ N(0, S),  S = sum over groups of sd^2 J J' + noise^2 / weight + s s' (graph^2 G + size^2 G exp(-d^2 / 2))
    log evidence = -1/2 z' S^-1 z - 1/2 log |S| + log-normal hyperpriors

(MacKay 1992, type II maximum likelihood). Errors of one graph at several sizes go together, more so at like sizes,
which G (1 for two points of one graph, else 0) and d (their distance in time, in octaves) grant: else many sizes of few
graphs would pass for many graphs. They are errors of what the device takes for the graph's ops, so they show in a
point as far as these do, which is s, the derivative by what all ops have in common: a step that only waits for its host
tells nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from simulator.work import Flags, Floats, Ints

STEPS = "noise of steps"

TYPICAL: Mapping[str, float] = {
    "overall": 1.0,
    "kernel class": 0.3,
    "class": 0.2,
    "shape, wide": 0.3,
    "shape, narrow": 0.15,
    "images": 0.1,
    "size, near": 0.1,
    STEPS: 0.03,
    "graph": 0.07,
    "size": 0.03,
}
"""Medians of the hyperpriors, in logarithms: what analytic models of devices are off by."""
NOISE_OF_OPS = 0.1
"""The same for the noise of ops of each kernel class."""
DOUBT = 0.7
"""Standard deviation of the logarithm of each of them."""
MOST_POINTS = 2000
"""The evidence is taken of at most so many points, drawn evenly: it costs their cube."""
MOST_STEPS = 60


@dataclass(frozen=True)
class Spreads:
    """Standard deviations by name, those of `TYPICAL` that the data have."""

    of: Mapping[str, float]

    def covariance(self, linear: Linear) -> Floats:
        """Return S of a linear problem, shape (points, points)."""
        scaled = linear.jacobian * np.array([self.of.get(name, 0.0) for name in linear.group])
        found: Floats = scaled @ scaled.T + self.errors(linear)
        return found

    def noise(self, of_point: Sequence[str]) -> Floats:
        """Return the standard deviation of the noise of every point, by the name of its noise."""
        return np.array([self.of.get(name, NOISE_OF_OPS) for name in of_point])

    def errors(self, linear: Linear) -> Floats:
        """Return that part of S which no term explains: noise, and what the points of a graph have in common."""
        found = np.diag(self.noise(linear.noise) ** 2 / linear.weight)
        for name, part in linear.in_common().items():
            found += self.of.get(name, 0.0) ** 2 * part
        return found


@dataclass(frozen=True)
class Linear:
    """z = J theta + noise: `jacobian` (points, terms), `target` (points,), `group` names of the terms' groups, `weight`
    (points,) of each point, `noise` names of the points' noise, `graph` as in `Observed`, `octave` (points,) the
    logarithm of the time."""

    jacobian: Floats
    target: Floats
    group: tuple[str, ...]
    weight: Floats
    noise: tuple[str, ...]
    graph: Ints
    octave: Floats

    @property
    def is_step(self) -> Flags:
        """Whether each point is of a whole step."""
        return np.array(self.noise) == STEPS

    def parts(self) -> dict[str, Floats]:
        """Return what those of the terms, and of what points have in common, are multiplied with, squared, in S."""
        groups = np.array(self.group)
        by_group = {name: self.jacobian[:, groups == name] for name in dict.fromkeys(self.group)}
        return {name: of @ of.T for name, of in by_group.items()} | self.in_common()

    def in_common(self) -> dict[str, Floats]:
        """Return the same of what the points of a graph have in common beside the terms, where there is such."""
        steps = self.is_step
        graphs, sizes = np.unique(self.graph[steps], return_counts=True)
        if len(graphs) < 3 or sizes.max() < 2:
            return {}
        same = (np.equal.outer(self.graph, self.graph) & np.outer(steps, steps)) * self._of_device
        return {
            "graph": same,
            "size": same * np.exp(-(np.subtract.outer(self.octave, self.octave) ** 2) / 2.0),
        }

    @property
    def _of_device(self) -> Floats:
        """s s', shape (points, points)."""
        share = self.jacobian[:, self.group.index("overall")]
        return np.outer(share, share)

    def some(self, most: int) -> Linear:
        """Return at most so many of the points, evenly over their order."""
        if len(self.target) <= most:
            return self
        kept = np.unique(np.linspace(0, len(self.target) - 1, most).round().astype(np.int64))
        noise = tuple(self.noise[i] for i in kept.tolist())
        columns = (self.weight[kept], noise, self.graph[kept], self.octave[kept])
        return Linear(self.jacobian[kept], self.target[kept], self.group, *columns)


def spreads(linear: Linear, start: Spreads | None = None) -> Spreads:
    """Return the standard deviations of most evidence, beginning at `start` or at what is typical."""
    few = linear.some(MOST_POINTS)
    parts = few.parts()
    noises = list(dict.fromkeys(few.noise))
    free = [*(name for name in parts if name not in FIXED), *noises]
    count = len(few.target)
    matrices = np.array([parts[name] for name in free[: -len(noises)]]).reshape(-1, count, count)
    diagonals = np.array([(np.array(few.noise) == name) / few.weight for name in noises])
    fixed = sum((TYPICAL[name] ** 2 * parts[name] for name in FIXED if name in parts), 1e-9 * np.eye(count))
    typical = np.log([TYPICAL.get(name, NOISE_OF_OPS) for name in free])
    first = np.log([start.of.get(name, NOISE_OF_OPS) for name in free]) if start else typical

    def loss(logs: Floats) -> tuple[float, Floats]:
        squares = np.exp(2.0 * logs)
        covariance = fixed + np.tensordot(squares[: len(matrices)], matrices, 1)
        covariance[np.diag_indices_from(covariance)] += squares[len(matrices) :] @ diagonals
        factor = cho_factor(covariance, lower=True)
        solved = cho_solve(factor, few.target)
        gap = cho_solve(factor, np.eye(count)) - np.outer(solved, solved)
        value = (
            0.5 * few.target @ solved
            + np.log(np.diag(factor[0])).sum()
            + ((logs - typical) ** 2).sum() / (2.0 * DOUBT**2)
        )
        slopes = np.concatenate([np.tensordot(matrices, gap, 2), diagonals @ np.diag(gap)])
        return float(value), squares * slopes + (logs - typical) / DOUBT**2

    bounds = [(t - 4.0, t + 3.0) for t in typical]
    best = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MOST_STEPS}).x
    found = dict(zip(free, np.exp(best).tolist(), strict=True))
    return Spreads({**{name: TYPICAL[name] for name in FIXED if name in parts}, **found})


FIXED = ("overall",)
"""A single coefficient tells nothing of its own spread."""
