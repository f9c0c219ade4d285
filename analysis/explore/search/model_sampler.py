"""A sampler that learns the space: it prices where the most hypervolume is hoped for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from analysis.explore.pareto import Flags, Floats, front, fronts
from analysis.explore.search.axes import Axes, covering, every, neighbours, size
from analysis.explore.search.gain import best
from analysis.explore.search.observed import Observed
from analysis.explore.search.process import Fitted, fitted, weights
from analysis.explore.search.sampler import Sampler
from simulator.work import Ints

_HOPES = (0.5, 2.0)
"""Standard deviations below the expected value that are hoped for, in turns of batches: little looks where the model is
good, much where it knows little. With 0.5 alone one search of four missed a technique that pays in one network only."""

_FITS = (32, 64, 128, 256)
"""After so many answers the weights of the model are fitted anew; the last ones stay."""

_LEARNED = 1000
"""Answers that the model goes through at most: the front and a random part, as its time grows with their cube."""

_POOL = 1024
"""Random candidates of a group, and as many neighbours of its front, among which one is chosen; all where it has no
more points."""

_FEWEST = 8
"""Points with numbers that a model needs to begin with."""


class ModelSampler(Sampler):
    """Proposes `start` points that cover the space, then the most promising under a Gaussian process of each column."""

    def __init__(self, axes: Axes, seed: int, start: int) -> None:
        super().__init__(axes, seed)
        self._first = covering(axes, start, np.random.default_rng(seed))
        self._hope = _HOPES[0]
        self._found: Observed | None = None
        self._weights: dict[tuple[int, int], Floats] = {}

    def tell(self, found: Observed) -> None:
        self._found = found if self._found is None else self._found.and_(found)
        self.__dict__.pop("_models", None)

    def ask(self, batch: int, count: int, pending: Ints) -> Ints:
        first = self._take(self.new(self._first)[:count])
        self._hope = _HOPES[batch % len(_HOPES)]
        return np.concatenate([first, super().ask(batch, count - len(first), pending)])

    def _choose(self, group: int, count: int, pending: Ints, rng: np.random.Generator) -> Ints:
        found = self._found
        if found is None or found.known.sum() < _FEWEST:
            return self.at_random(group, count, rng)
        mine = found.feasible & (self.axes.group_of(found.points) == group)
        values = np.stack([scale(v[mine]) for scale, v in zip(self._scales, found.objectives.T, strict=True)], axis=1)
        candidates = self._candidates(group, found.points[mine][front(values)], rng)
        waiting = pending[self.axes.group_of(pending) == group]
        expected, _ = self._predict(waiting)
        known = np.concatenate([values, expected[:, : values.shape[1]]])
        expected, deviation = self._predict(candidates)
        hoped = expected - self._hope * deviation
        open_ = self._possible(candidates) & (hoped[:, values.shape[1] :] <= 0).all(axis=1)
        places = np.flatnonzero(open_) if open_.sum() >= count else np.arange(len(candidates))
        return candidates[places[best(known, hoped[places, : values.shape[1]], count, rng)]]

    def _candidates(self, group: int, best_: Ints, rng: np.random.Generator) -> Ints:
        """Return new points of a group to choose from, in order."""
        levels = self.axes.group(group)
        if size(levels) <= 2 * _POOL:
            return self.new(every(self.axes, levels))
        near = self.new(neighbours(self.axes, levels, best_))
        near = near if len(near) <= _POOL else rng.choice(near, _POOL, replace=False)
        return np.union1d(near, self.at_random(group, _POOL, rng))

    @property
    def _scales(self) -> list[Callable[[Floats], Floats]]:
        """How each objective is put on a scale on which effects add: logarithms of what has one sign."""
        assert self._found is not None
        return [_scale(column[self._found.known]) for column in self._found.objectives.T]

    @cached_property
    def _models(self) -> tuple[tuple[Fitted, ...], Fitted | None]:
        """A model of each column, and one of whether there is no such step (1) or is (0), where some have none."""
        found = self._found
        assert found is not None
        columns = found.columns.copy()
        for place, scale in enumerate(self._scales):
            columns[:, place] = scale(columns[:, place])
        models = tuple(self._fitted(place, found.known, column) for place, column in enumerate(columns.T))
        if found.known.all():
            return models, None
        everywhere = np.ones(len(found.points), dtype=np.bool_)
        return models, self._fitted(len(models), everywhere, np.where(found.known, 0.0, 1.0))

    def _fitted(self, column: int, usable: Flags, values: Floats) -> Fitted:
        """Return the model of a column; its weights are those fitted when there were as many answers as in `_FITS`."""
        stage = max((count for count in _FITS if count <= len(values)), default=len(values))
        if (column, stage) not in self._weights:
            places = np.flatnonzero(usable)
            early = places[: max(_FEWEST, int((places < stage).sum()))]
            self._weights[column, stage] = weights(self.axes, self._levels(early), values[early])
        places = self._learned(usable)
        return fitted(self.axes, self._levels(places), values[places], self._weights[column, stage])

    def _learned(self, usable: Flags) -> Ints:
        """Return the places of the answers that a model goes through."""
        found = self._found
        assert found is not None
        places = np.flatnonzero(usable)
        if len(places) <= _LEARNED:
            return places
        kept = places[fronts(found.objectives[places], self.axes.group_of(found.points[places]))][:_LEARNED]
        rest = np.random.default_rng([self.seed, len(places)]).permutation(np.setdiff1d(places, kept))
        return np.sort(np.concatenate([kept, rest[: _LEARNED - len(kept)]]))

    def _levels(self, places: Ints) -> Ints:
        assert self._found is not None
        return self.axes.levels(self._found.points[places])

    def _predict(self, points: Ints) -> tuple[Floats, Floats]:
        """Return expected values and standard deviations of all columns, each of shape (points, columns)."""
        levels = self.axes.levels(points)
        predicted = [model.predict(levels) for model in self._models[0]]
        return np.stack([p[0] for p in predicted], axis=1), np.stack([p[1] for p in predicted], axis=1)

    def _possible(self, points: Ints) -> Flags:
        """Return where a step is likely to exist."""
        missing = self._models[1]
        if missing is None:
            return np.ones(len(points), dtype=np.bool_)
        return np.asarray(missing.predict(self.axes.levels(points))[0] < 0.5, dtype=np.bool_)


def _scale(values: Floats) -> Callable[[Floats], Floats]:
    if (values > 0).all():
        return np.log
    if (values < 0).all():
        return lambda column: -np.log(-column)
    return lambda column: column
