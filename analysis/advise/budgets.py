"""Budgets: the most that a training configuration may need of something."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from simulator.errors import TrainwattError
from simulator.units import parse, show

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "memory": "byte",
        "energy per step": "J",
        "energy per epoch": "J",
        "energy per run": "J",
        "time per step": "s",
        "time per epoch": "s",
        "time per run": "s",
    }
)
"""What a budget may be about, and its unit."""

DEFAULT_DATASET_SIZE = 10_000
"""Samples of an epoch where none are given: a small data set, as one collects on a device. The answer says so."""


@dataclass(frozen=True)
class Schedule:
    """A run: `epochs` passes over `dataset_size` samples."""

    epochs: int
    dataset_size: int


@dataclass(frozen=True)
class Budget:
    """At most `limit` (SI) of `name`, one of `UNITS`."""

    name: str
    limit: float

    def show(self, value: float) -> str:
        """Return a value of this budget's quantity as text."""
        return show(value, UNITS[self.name])

    def __str__(self) -> str:
        return f"{self.name} {self.show(self.limit)}"


def budgets(given: Mapping[str, str | None], memory_bytes: float) -> tuple[Budget, ...]:
    """Return the budgets that `given` states as text by name, and the device's own memory where it is less.

    Raises `TrainwattError` for text that is no positive quantity of the right unit.
    """
    found = []
    for name, text in given.items():
        if text is None:
            continue
        limit = parse(text, UNITS[name])
        if limit <= 0:
            raise TrainwattError(f"a budget of {text!r} for {name}; it is above 0")
        found.append(Budget(name, min(limit, memory_bytes) if name == "memory" else limit))
    if given.get("memory") is None:
        found.insert(0, Budget("memory", memory_bytes))
    return tuple(found)


def excess(budgets: Iterable[Budget], values: Mapping[str, float]) -> float:
    """Return how far `values` are above the worst budget, as the logarithm of a ratio; at most 0 where all are met."""
    return max((math.log(values[b.name] / b.limit) if values[b.name] > 0 else -math.inf for b in budgets), default=0.0)


def exceeded(budgets: Iterable[Budget], values: Mapping[str, float]) -> tuple[Budget, ...]:
    """Return the budgets that `values` do not meet."""
    return tuple(b for b in budgets if values[b.name] > b.limit)
