"""What a search has found so far, as the columns that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore.marking import Objective
from analysis.explore.pareto import Flags, Floats
from analysis.explore.space import Space
from simulator.work import Ints


@dataclass(frozen=True)
class Observed:
    """What was found at `points`: `objectives`, shape (points, objectives), less is better; `excess`, shape (points,
    bounds), the logarithm of what is bounded over its bound. Not a number where a step does not exist."""

    points: Ints
    objectives: Floats
    excess: Floats

    @property
    def known(self) -> Flags:
        """Which points have all numbers."""
        return np.asarray(~np.isnan(self.columns).any(axis=1))

    @property
    def feasible(self) -> Flags:
        """Which points are within all bounds."""
        return self.known & (self.excess <= 0).all(axis=1)

    @property
    def columns(self) -> Floats:
        """Objectives and excess, side by side."""
        return np.concatenate([self.objectives, self.excess], axis=1)

    def and_(self, more: Observed) -> Observed:
        """Return what was found before and `more`."""
        return Observed(
            np.concatenate([self.points, more.points]),
            np.concatenate([self.objectives, more.objectives]),
            np.concatenate([self.excess, more.excess]),
        )


def observed(table: pa.Table, space: Space, wanted: Sequence[Objective]) -> Observed:
    """Return what rows of a table of points say of the objectives and of the limits and memory of `space`."""

    def column(name: str) -> Floats:
        return np.asarray(table.column(name).to_numpy(), dtype=np.float64)

    objectives = np.stack([column(o.column) * (-1.0 if o.most else 1.0) for o in wanted], axis=1)
    bounds = [column(name) / limit for name, limit in space.limits]
    if space.must_fit:
        bounds.append(column("needed_bytes") / column("memory_bytes"))
    excess = np.full((len(table), len(bounds)), np.nan)
    for place, ratio in enumerate(bounds):
        excess[:, place] = np.log(np.maximum(ratio, 1e-300))
    return Observed(np.asarray(table.column("point").to_numpy(), dtype=np.int64), objectives, excess)
