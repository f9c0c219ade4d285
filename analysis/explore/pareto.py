"""The Pareto front: the points that no other point is at least as good as in everything and better in something.

Divide and conquer over points sorted by the first objective (Kung, Luccio, Preparata, "On finding the maxima of a set
of vectors", JACM 22(4), 1975), every step on whole columns: n log(n) time for two objectives, n log(n)^2 for three.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.errors import TrainwattError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SMALL = 64
_BLOCK = 512


def front(values: Floats) -> Flags:
    """Return which rows of `values`, shape (points, objectives), are on the front; less is better in each.

    Points that are equal are all on it, or none is. A point with a value that is not a number is not on it. Raises
    `TrainwattError` where there is no objective.
    """
    if values.ndim != 2 or not values.shape[1]:
        raise TrainwattError("a front of no objective; give at least one")
    kept = np.zeros(len(values), dtype=np.bool_)
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    if not known.size:
        return kept
    # Sorted by the first objective, then the second, ...: no point is dominated by a later one, and equals are one.
    order = known[np.lexsort(values[known].T[::-1])]
    points = values[order] + 0.0  # minus zero is zero
    first = np.concatenate([[True], (points[1:] != points[:-1]).any(axis=1)])
    kept[order] = _of_sorted(points[first])[np.cumsum(first) - 1]
    return kept


def fronts(values: Floats, group: npt.NDArray[np.int64]) -> Flags:
    """Return which points are on the front of their own group; `group`, shape (points,), numbers the groups."""
    kept = np.zeros(len(values), dtype=np.bool_)
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    for places in np.split(order, ends):
        kept[places] = front(values[places])
    return kept


def _of_sorted(points: Floats) -> Flags:
    """Return the front of distinct points in lexicographic order."""
    n, objectives = points.shape
    if objectives == 1:
        kept = np.zeros(n, dtype=np.bool_)
        kept[0] = True
        return kept
    if objectives == 2:
        kept = np.ones(n, dtype=np.bool_)
        kept[1:] = points[1:, 1] < np.minimum.accumulate(points[:-1, 1])
        return kept
    if n <= _SMALL:
        return ~_dominated(points, points)
    if objectives == 3:
        return _halves(points)
    return _blocks(points)


def _halves(points: Floats) -> Flags:
    """Of three objectives: the better half's staircase in the other two, then the front of what it leaves."""
    middle = len(points) // 2
    kept = np.zeros(len(points), dtype=np.bool_)
    kept[:middle] = _of_sorted(points[:middle])
    better = points[:middle][kept[:middle], 1:]
    better = better[np.argsort(better[:, 0], kind="stable")]
    lowest = np.minimum.accumulate(better[:, 1])
    steps = np.searchsorted(better[:, 0], points[middle:, 1], side="right")
    beaten = (steps > 0) & (lowest[np.maximum(steps, 1) - 1] <= points[middle:, 2])
    left = middle + np.flatnonzero(~beaten)
    if left.size:
        kept[left] = _of_sorted(points[left])
    return kept


def _blocks(points: Floats) -> Flags:
    """Of many objectives: block by block against the front so far."""
    kept = np.zeros(len(points), dtype=np.bool_)
    for start in range(0, len(points), _BLOCK):
        places = np.arange(start, min(start + _BLOCK, len(points)))
        known = np.flatnonzero(kept[:start])
        for part in range(0, len(known), _BLOCK):
            places = places[~_dominated(points[places], points[known[part : part + _BLOCK]])]
        kept[places] = ~_dominated(points[places], points[places])
    return kept


def _dominated(points: Floats, by: Floats) -> Flags:
    """Return which points some row of `by` dominates."""
    no_worse: Flags = np.ones((len(points), len(by)), dtype=np.bool_)
    better: Flags = np.zeros_like(no_worse)
    for k in range(points.shape[1]):
        no_worse &= by[None, :, k] <= points[:, None, k]
        better |= by[None, :, k] < points[:, None, k]
    return np.asarray((no_worse & better).any(axis=1), dtype=np.bool_)
