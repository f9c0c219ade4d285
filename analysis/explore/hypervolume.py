"""Hypervolume: how much of the space between a reference point and the ideal a set of points dominates.

    HV(P, r) = volume of the union over p in P of the boxes [p_1, r_1] x ... x [p_k, r_k]

(Zitzler, Thiele, "Multiobjective evolutionary algorithms: a comparative case study", IEEE TEC 3(4), 1999), by slicing
along the last objective: k - 1 dimensions for every slice, so n^2 log(n) time for three objectives.
"""

from __future__ import annotations

import numpy as np

from analysis.explore.pareto import Floats, front
from simulator.errors import TrainwattError


def hypervolume(values: Floats, reference: Floats) -> float:
    """Return the volume that rows of `values`, shape (points, objectives), dominate below `reference`, (objectives,).

    Less is better. Points that are not below the reference in every objective, or that hold no number, add nothing.
    Raises `TrainwattError` where the shapes do not belong together.
    """
    if values.ndim != 2 or reference.shape != values.shape[1:] or not reference.size:
        raise TrainwattError(
            f"a reference of shape {reference.shape} for points {values.shape}; give one for each column"
        )
    inside = values[(values < reference).all(axis=1)]
    return _volume(inside[front(inside)], reference) if len(inside) else 0.0


def _volume(points: Floats, reference: Floats) -> float:
    """Return the volume of points on a front, all below the reference."""
    if points.shape[1] == 1:
        return float(reference[0] - points[:, 0].min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    if points.shape[1] == 2:
        lowest = np.minimum.accumulate(points[:, 0])
        depth = np.diff(np.append(points[:, 1], reference[1]))
        return float(((reference[0] - lowest) * depth).sum())
    total = 0.0
    heights = np.append(points[:, -1], reference[-1])
    for count in range(1, len(points) + 1):
        height = heights[count] - heights[count - 1]
        if height > 0:
            below = points[:count, :-1]
            total += height * _volume(below[front(below)], reference[:-1])
    return total
