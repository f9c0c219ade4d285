"""A space as a search sees it: four axes, what is alike on each, and the groups that each have a front of their own.

A point's number is that of the exhaustive exploration: ((source * techniques + technique) * devices + device) *
batches + batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from analysis.explore.grid import parsed
from analysis.explore.space import OPTIONS, Space
from simulator.work import Floats, Ints

SOURCE, TECHNIQUE, DEVICE, BATCH = range(4)

Levels = tuple[Ints, ...]
"""The levels of each axis that a set of points is the product of."""


@dataclass(frozen=True)
class Attribute:
    """What levels of `axis` may have in common: those with equal `codes` are alike, and where there are `places`
    (on a scale on which 1 is far), the more the closer these are."""

    axis: int
    codes: Ints
    places: Floats | None = None


@dataclass(frozen=True)
class Axes:
    """The levels, attributes and groups of `space`."""

    space: Space

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """The number of levels of each axis."""
        space = self.space
        return len(space.sources), len(space.techniques), len(space.devices), len(space.batches)

    def levels(self, points: Ints) -> Ints:
        """Return the level of each point on each axis, shape (points, 4)."""
        return np.stack(np.unravel_index(points, self.shape), axis=1).astype(np.int64)

    def points(self, levels: Ints) -> Ints:
        """Return the points at `levels`, shape (points, 4)."""
        return np.asarray(np.ravel_multi_index(tuple(levels.T), self.shape), dtype=np.int64)

    @cached_property
    def families(self) -> Ints:
        """The family of each technique setting: which techniques it composes."""
        return _codes([tuple(technique.name for technique in parsed(text)) for text in self.space.techniques])

    @cached_property
    def attributes(self) -> tuple[Attribute, ...]:
        """What a model of the space may learn from: likeness of networks and options, settings, devices, batches."""
        space, family = self.space, self.families
        sources = [(s.name, s.path, *(dict(s.options).get(key) for key in OPTIONS)) for s in space.sources]
        place = np.array([(family[:i] == code).sum() for i, code in enumerate(family)])
        sizes = np.log(np.array(space.batches, dtype=np.float64))
        sizes = (sizes - sizes.min()) / max(float(np.ptp(sizes)), 1.0)
        same = np.zeros(len(sizes), dtype=np.int64)
        found = (
            *(Attribute(SOURCE, _codes(column)) for column in zip(*sources, strict=True)),
            Attribute(TECHNIQUE, family),
            Attribute(TECHNIQUE, family, place / np.maximum(1, np.bincount(family) - 1)[family]),
            Attribute(TECHNIQUE, np.arange(len(family))),
            Attribute(DEVICE, _codes([device.name for device in space.devices])),
            Attribute(DEVICE, np.arange(len(space.devices))),
            Attribute(BATCH, same, sizes),
            Attribute(BATCH, same, 4.0 * sizes),
        )
        return tuple(a for a in found if a.places is not None or len(np.unique(a.codes)) > 1)

    @cached_property
    def _labels(self) -> Levels:
        """For each axis, a code for each level: levels of different codes belong to different groups."""
        space, within = self.space, self.space.within
        options = [key for key in OPTIONS if key in within]
        sources = [
            (*([s.name] if "network" in within else []), *(dict(s.options).get(key, s.path) for key in options))
            for s in space.sources
        ]
        devices = [
            [getattr(d, own) for key, own in (("device", "name"), ("mode", "mode")) if key in within]
            for d in space.devices
        ]
        techniques = [text if "technique" in within else "" for text in space.techniques]
        batches = [batch if "batch" in within else 0 for batch in space.batches]
        return _codes(sources), _codes(techniques), _codes([tuple(d) for d in devices]), _codes(batches)

    @cached_property
    def groups(self) -> int:
        """The number of groups of points that each have a front."""
        return prod(int(codes.max()) + 1 for codes in self._labels)

    def group(self, number: int) -> Levels:
        """Return the levels on each axis of a group, which is their product."""
        place = np.unravel_index(number, [int(codes.max()) + 1 for codes in self._labels])
        return tuple(np.flatnonzero(codes == code) for codes, code in zip(self._labels, place, strict=True))

    def group_of(self, points: Ints) -> Ints:
        """Return the number of the group that each point belongs to."""
        levels = self.levels(points)
        codes = tuple(codes[levels[:, axis]] for axis, codes in enumerate(self._labels))
        return np.ravel_multi_index(codes, [int(codes.max()) + 1 for codes in self._labels]).astype(np.int64)


def size(group: Levels) -> int:
    """Return the number of points of a group."""
    return prod(len(allowed) for allowed in group)


def every(axes: Axes, group: Levels) -> Ints:
    """Return all points of a group, in order."""
    return axes.points(np.stack(np.meshgrid(*group, indexing="ij"), axis=-1).reshape(-1, len(group)))


def spread(axes: Axes, group: Levels, count: int, rng: np.random.Generator) -> Ints:
    """Return `count` random points of a group, every level of an axis about as often as the others.

    A point may come twice (McKay, Beckman, Conover, "A comparison of three methods for selecting values of input
    variables", Technometrics 21(2), 1979).
    """
    columns = []
    for allowed in group:
        rounds = -(-count // len(allowed))
        columns.append(np.concatenate([rng.permutation(allowed) for _ in range(rounds)])[:count])
    return axes.points(np.stack(columns, axis=1))


def covering(axes: Axes, count: int, rng: np.random.Generator) -> Ints:
    """Return `count` random points of all, every network with every technique setting about as often as the others,
    as every device and every batch size; what a technique changes is another thing in every network."""
    steps, levels = axes.shape[SOURCE] * axes.shape[TECHNIQUE], np.zeros((count, 4), dtype=np.int64)
    for axis, number in ((TECHNIQUE, steps), (DEVICE, axes.shape[DEVICE]), (BATCH, axes.shape[BATCH])):
        rounds = -(-count // number)
        levels[:, axis] = np.concatenate([rng.permutation(number) for _ in range(rounds)])[:count]
    levels[:, SOURCE], levels[:, TECHNIQUE] = np.divmod(levels[:, TECHNIQUE], axes.shape[TECHNIQUE])
    return axes.points(levels)


def neighbours(axes: Axes, group: Levels, points: Ints) -> Ints:
    """Return the points of a group that differ from one of `points` on one axis, each once."""
    levels, found = axes.levels(points), [np.zeros(0, dtype=np.int64)]
    for axis, allowed in enumerate(group):
        moved = np.repeat(levels, len(allowed), axis=0)
        moved[:, axis] = np.tile(allowed, len(levels))
        found.append(axes.points(moved))
    return np.setdiff1d(np.concatenate(found), points)


def _codes(labels: Sequence[Hashable]) -> Ints:
    """Return a number for each label, the same for equal ones, in order of first occurrence."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.int64)
