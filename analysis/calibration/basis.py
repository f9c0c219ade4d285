"""The terms of a correction as columns over rows of work, and back from their coefficients to a `Correction`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from hwmodels.corrected.correction import Correction, Smooth, chosen, kernel
from hwmodels.corrected.features import SHAPE, classes, families, kernel_of, shape_features
from simulator.work import Floats, Ints, Work

GROUPS = ("overall", "kernel class", "class", "shape, wide", "shape, narrow", "images", "size, near")
"""Terms of one kind share the standard deviation of their prior."""
JITTER = 1e-6


@dataclass(frozen=True)
class Scale:
    """How far terms of a group reach: over `length` octaves of `features`, among ops of one class or family (`by`).

    At most `most` shapes of each stand for all of them (inducing points; Quinonero-Candela & Rasmussen 2005).
    """

    by: str
    length: float
    most: int
    features: tuple[str, ...] = SHAPE


# What shapes do is much alike over the kinds of a family, and over eight octaves most shapes of a network are alike;
# what they do to a kind of op is told by near shapes. With the number of images alone libraries change kernels from one
# to its double; and how well an image and its channels fall into a kernel's blocks is much its own, whatever the number
# of images and wherever they lie.
SCALES = {
    "shape, wide": Scale("family", 8.0, 48),
    "shape, narrow": Scale("class", 3.0, 240),
    "images": Scale("family", 1.0, 24, ("images",)),
    "size, near": Scale("class", 0.5, 400, ("positions", "groups", "k", "c", "taps", "stride", "channels last")),
}


@dataclass(frozen=True)
class Basis:
    """`columns`, shape (rows, terms), are the terms at the rows of a table; the coefficients of those of one of the
    `GROUPS` (codes in `group`, shape (terms,)) have one prior variance, zero mean, and no correlation."""

    columns: Floats = field(repr=False)
    group: Ints
    names: tuple[str, ...]
    smooth: tuple[tuple[Scale, str, Floats, Floats], ...] = field(repr=False)
    """Scale, of, centres and what whitens them."""

    def correction(self, coefficients: Floats, ranges: Mapping[str, Floats]) -> Correction:
        """Return the correction that these coefficients, shape (terms,), make."""
        factors = dict(zip(self.names, coefficients[: len(self.names)].tolist(), strict=True))
        parts, at = [], len(self.names)
        for scale, name, centres, whitening in self.smooth:
            weights = whitening @ coefficients[at : at + len(centres)]
            parts.append(Smooth(name, scale.length, centres, weights, scale.by, scale.features))
            at += len(centres)
        return Correction(factors, tuple(parts), ranges)


def basis_of(work: Work, used: Ints, allowed: Sequence[str] = GROUPS) -> Basis:
    """Return the terms of the `allowed` groups at all rows of `work`, with centres among the rows `used`."""
    names = np.array(classes(work))
    kernels = np.array([kernel_of(name) for name in names])
    shapes = shape_features(work)
    columns = [np.ones(len(names))]
    groups, terms = [0], [""]
    for kernel_class in sorted(set(kernels[used])) if GROUPS[1] in allowed else ():
        columns.append((kernels == kernel_class).astype(np.float64))
        groups.append(1)
        terms.append(str(kernel_class))
    for name in sorted(set(names[used]) - set(kernels)) if GROUPS[2] in allowed else ():
        columns.append((names == name).astype(np.float64))
        groups.append(2)
        terms.append(str(name))
    labels_by = {"family": np.array(families(work)), "class": names}
    smooth = []
    for group, scale in SCALES.items():
        if group not in allowed:
            continue
        labels, some = labels_by[scale.by], chosen(shapes, scale.features)
        for name in sorted(set(labels[used])):
            own = used[labels[used] == name]
            centres = spread_out(some[own], scale.most)
            if len(centres) < 2:
                continue  # one shape: its class says it all
            root = cholesky(kernel(centres, centres, scale.length) + JITTER * np.eye(len(centres)), lower=True)
            whitening = solve_triangular(root, np.eye(len(centres)), lower=True).T
            rows = np.flatnonzero(labels == name)
            made = np.zeros((len(names), len(centres)))
            made[rows] = kernel(some[rows], centres, scale.length) @ whitening
            columns += list(made.T)
            groups += [GROUPS.index(group)] * len(centres)
            smooth.append((scale, str(name), centres, whitening))
    return Basis(np.column_stack(columns), np.array(groups), tuple(terms), tuple(smooth))


def ranges_of(work: Work, used: Ints) -> dict[str, Floats]:
    """Return the least and the largest shape of each class among the rows `used`, shape (2, features)."""
    names, shapes = np.array(classes(work)), shape_features(work)
    return {
        str(name): np.stack([shapes[own].min(axis=0), shapes[own].max(axis=0)])
        for name in sorted(set(names[used]))
        for own in [used[names[used] == name]]
    }


def spread_out(points: Floats, most: int) -> Floats:
    """Return at most so many of distinct `points`, each the farthest from those before it (Gonzalez 1985)."""
    distinct = np.unique(np.round(points, 6), axis=0)
    chosen = [int(((distinct - distinct.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    distance = ((distinct - distinct[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(distinct)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((distinct - distinct[chosen[-1]]) ** 2).sum(axis=1))
    return distinct[chosen]
