"""Corrections as plain numbers: what an op takes is its analytic price times exp(g).

    g(op) = overall + of its kernel class + of its class + sum over centres c of weight(c) k(op, c)
    k(x, y) = exp(-|x - y|^2 / (2 length^2)) between ops of one family or class, x and y as `features.shape_features`,
              all of them or some

the posterior mean of a Gaussian process (Rasmussen & Williams 2006, 2.25) at the shapes that were measured; far from
all of them g is what its class says, and without any measurement of it, what its kernel class says, or all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwmodels.corrected.features import SHAPE, classes, families, kernel_of, shape_features
from simulator.errors import TrainwattError, unknown
from simulator.work import Floats, Ints, Work

BY = ("class", "family")
LARGEST = 4.0
"""No correction is beyond exp(+-4), a factor of 55: a model that far off says nothing."""


@dataclass(frozen=True)
class Smooth:
    """What depends on the `features` of a shape within one class or family (`by`), called `of`, at one length scale in
    octaves.

    `centres` has shape (n, features), `weights` (n,). Raises `TrainwattError` on construction where they do not fit.
    """

    of: str
    length: float
    centres: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    by: str = "class"
    features: tuple[str, ...] = SHAPE

    def __post_init__(self) -> None:
        if self.by not in BY:
            raise unknown("kind of smooth correction", self.by, BY)
        for name in self.features:
            if name not in SHAPE:
                raise unknown("feature of shapes", name, SHAPE)
        fits = self.centres.ndim == 2 and self.centres.shape == (len(self.weights), len(self.features))
        if not (fits and self.length > 0 and np.isfinite(self.centres).all() and np.isfinite(self.weights).all()):
            raise TrainwattError(
                f"smooth correction of {self.of} with centres {self.centres.shape} and weights {self.weights.shape}; "
                f"each of finite centres has {len(self.features)} features and a weight"
            )

    def __call__(self, shapes: Floats) -> Floats:
        """Return the correction at `shapes`, whose last axis is that of `SHAPE`."""
        found: Floats = kernel(chosen(shapes, self.features), self.centres, self.length) @ self.weights
        return found


def chosen(shapes: Floats, features: Sequence[str]) -> Floats:
    """Return these features of `shapes`, whose last axis is that of `SHAPE`."""
    return shapes if tuple(features) == SHAPE else shapes[..., [SHAPE.index(name) for name in features]]


def kernel(shapes: Floats, centres: Floats, length: float) -> Floats:
    """Return k between each of `shapes` (..., features) and each of `centres` (n, features), shape (..., n)."""
    squares = (shapes**2).sum(-1)[..., None] + (centres**2).sum(-1) - 2.0 * shapes @ centres.T
    alike: Floats = np.exp(-np.maximum(squares, 0.0) / (2.0 * length**2))
    return alike


@dataclass(frozen=True)
class Correction:
    """`factors` are logarithms by kernel class or class, "" for all ops. `ranges` hold the least and the largest shape
    that was measured of each class, shape (2, features)."""

    factors: Mapping[str, float]
    smooth: tuple[Smooth, ...] = ()
    ranges: Mapping[str, Floats] = field(default_factory=dict, repr=False)

    def log_factor(self, work: Work) -> Floats:
        """Return g of every row of `work`, in the shape of its columns."""
        found = np.full(work.macs.shape, self.factors.get("", 0.0))
        shapes = shape_features(work)
        alike = {"class": places_of(classes(work)), "family": places_of(families(work))}
        for name, rows in alike["class"].items():
            kernel_class = kernel_of(name)
            found[rows] += self.factors.get(kernel_class, 0.0)
            if name != kernel_class:
                found[rows] += self.factors.get(name, 0.0)
        for part in self.smooth:
            if part.of in alike[part.by]:
                own = alike[part.by][part.of]
                found[own] += part(shapes[own])
        limited: Floats = np.clip(found, -LARGEST, LARGEST)
        return limited

    def outside(self, work: Work, margin: float = 1.0) -> dict[int, str]:
        """Return why rows of `work` are outside of what was measured, by row; nothing of those within.

        Outside is a class of which nothing was measured, and a shape that is more than `margin` octaves beyond the
        measured ones in any feature.
        """
        shapes = shape_features(work)
        found = {row: self._why_outside(name, shapes[row], margin) for row, name in enumerate(classes(work))}
        return {row: why for row, why in found.items() if why}

    def _why_outside(self, name: str, shape: Floats, margin: float) -> str:
        if kernel_of(name) == "view":
            return ""
        if name not in self.ranges:
            return f"{name}: never measured"
        least, largest = self.ranges[name]
        flat = shape.reshape(-1, len(SHAPE))
        for i, feature in enumerate(SHAPE):
            low, high = float(flat[:, i].min()), float(flat[:, i].max())
            if high > largest[i] + margin:
                return f"{name}: {feature} beyond those measured"
            if low < least[i] - margin:
                return f"{name}: {feature} below those measured"
        return ""


def places_of(names: Sequence[str]) -> dict[str, Ints]:
    """Return the places of each name."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name, []).append(place)
    return {name: np.array(places) for name, places in found.items()}
