"""Settings worth trying of a technique, derived from its own parameters.

Numbers are varied one at a time, everything else stays at its default: a whole number at half and twice its default, a
share (a number between 0 and 1) at half of it and halfway to 1, and `last` (how many layers) along a ladder. Choices,
switches and names say how a technique is computed rather than how strongly it acts, and are not varied. What a
technique itself refuses is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Any

from simulator.errors import TrainwattError
from simulator.techniques import Technique, parameter_types


def settings(cls: type[Technique], layers: int) -> list[Technique]:
    """Return settings of a technique for a network of so many weight layers, the default first, each once."""
    found: dict[str, Technique] = {}
    for given in ({}, *_varied(cls, layers)):
        try:
            technique = cls(**given)
        except TrainwattError:
            continue
        found.setdefault(str(technique), technique)
    return list(found.values())


def _varied(cls: type[Technique], layers: int) -> Iterator[dict[str, Any]]:
    hints = parameter_types(cls)
    for f in fields(cls):  # type: ignore[arg-type]  # every technique is a dataclass
        if not f.init or f.default is MISSING:
            continue
        if f.name == "last" and hints[f.name] == int | None:
            values: Iterable[Any] = ladder(layers)
        elif type(f.default) is int and f.default > 0:
            values = (f.default // 2, 2 * f.default)
        elif type(f.default) is float and 0 < f.default < 1:
            values = (f.default / 2, (1 + f.default) / 2)
        else:
            continue
        for value in values:
            yield {f.name: value}


def ladder(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12, 16, ... up to `most`, most first: each half as much again, or a third."""
    steps = {most}
    power = 1
    while power <= most:
        steps |= {n for n in (power, power + power // 2) if n <= most}
        power *= 2
    return sorted(steps, reverse=True)
