"""Who proposes the points of a search, and what every sampler does alike: no point twice, each group its share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from analysis.explore.search.axes import Axes, every, size, spread
from analysis.explore.search.observed import Observed
from simulator.work import Ints

_ROUNDS = 4
"""Random draws of four times what is wanted, before what is left of a group is listed."""


class Sampler(ABC):
    """Proposes batches of points of `axes` that it has not proposed before, evenly over the groups.

    The same seed and the same answers give the same points.
    """

    def __init__(self, axes: Axes, seed: int) -> None:
        self.axes, self.seed = axes, seed
        self._taken: set[int] = set()
        self._left = [size(axes.group(number)) for number in range(axes.groups)]

    def ask(self, batch: int, count: int, pending: Ints) -> Ints:
        """Return `count` new points (fewer only where there are no more); `pending` ones have no answer yet."""
        rng = np.random.default_rng([self.seed, batch])
        parts = [self._take(self._choose(group, share, pending, rng)) for group, share in self._shares(count).items()]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def recall(self, batch: int, points: Ints, pending: Ints) -> None:
        """Take note that an earlier run has asked for `points` in this batch."""
        self._take(points)

    @abstractmethod
    def tell(self, found: Observed) -> None:
        """Learn what was found at points that were asked for."""

    @abstractmethod
    def _choose(self, group: int, count: int, pending: Ints, rng: np.random.Generator) -> Ints:
        """Return so many points of a group, each new."""

    def new(self, points: Ints) -> Ints:
        """Return those of `points` that were not proposed yet, each once."""
        return np.array([p for p in dict.fromkeys(points.tolist()) if p not in self._taken], dtype=np.int64)

    def at_random(self, group: int, count: int, rng: np.random.Generator) -> Ints:
        """Return up to `count` new points of a group, every level of an axis about as often as the others."""
        levels = self.axes.group(group)
        found = self.new(spread(self.axes, levels, _ROUNDS * count, rng))
        if len(found) < count and size(levels) <= 2 * _ROUNDS * (count + len(self._taken)):
            found = rng.permutation(self.new(every(self.axes, levels)))
        return found[:count]

    def _take(self, points: Ints) -> Ints:
        self._taken.update(points.tolist())
        for group, count in zip(*np.unique(self.axes.group_of(points), return_counts=True), strict=True):
            self._left[int(group)] -= int(count)
        return points

    def _shares(self, count: int) -> dict[int, int]:
        """Return how many of the next `count` points each group gets, in turns."""
        shares: dict[int, int] = {}
        left, turn = list(self._left), len(self._taken)
        while count and any(left):
            group = turn % len(left)
            if left[group]:
                shares[group] = shares.get(group, 0) + 1
                left[group], count = left[group] - 1, count - 1
            turn += 1
        return shares
