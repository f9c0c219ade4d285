"""A number of a device, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.units import show

KINDS = ("datasheet", "measured", "fitted", "assumed")
"""How a number is known, best first. What is computed from several numbers is as good as their worst."""


@dataclass(frozen=True, slots=True)
class Number:
    """A value in the base unit `unit` (a key of `simulator.units`), how it is known and from where."""

    value: float
    unit: str
    kind: str
    source: str

    def __str__(self) -> str:
        return show(self.value, self.unit) if self.unit else f"{self.value:g}"

    @property
    def entry(self) -> dict[str, object]:
        """The number as a plain dict, for a card."""
        return {"value": self.value, "unit": self.unit, "kind": self.kind, "source": self.source}


def derived(value: float, unit: str, formula: str, *parts: Number) -> Number:
    """Return a number computed from `parts`; its source is the formula with the sources of its parts."""
    sources = dict.fromkeys(part.source for part in parts)
    kind = max((part.kind for part in parts), key=KINDS.index)
    return Number(value, unit, kind, "; ".join([formula, *sources]))
