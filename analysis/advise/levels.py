"""How far a technique departs from plain training, and in which order techniques are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields

from simulator.techniques import Technique

LEVELS = ("exact", "partial", "approximate", "changed")
"""`exact`: the same gradients (with accumulation, but for the statistics of batch norm). `partial`: exact gradients, of
fewer parameters. `approximate`: other gradients, or other data. `changed`: another network or task is trained."""

_LEVEL = {
    "channels-last": "exact",
    "accumulate": "exact",
    "recompute": "exact",
    "fuse": "exact",
    "sparse-update": "partial",
    "freeze-bn": "partial",
    "structured-prune": "changed",
    "early-exit": "changed",
    "partial-domain-adaptation": "changed",
}

_BEFORE = ("structured-prune", "partial-domain-adaptation", "early-exit", "sparse-update", "freeze-bn", "fuse")
_AFTER = ("ohem", "instance-filter", "smd", "channels-last", "accumulate", "recompute")


def level_of(name: str) -> str:
    """Return the level of a technique by name; one that is not known otherwise is approximate."""
    return _LEVEL.get(name, "approximate")


def level(techniques: Sequence[Technique]) -> int:
    """Return the highest level among techniques, as a number into `LEVELS`; 0 for none."""
    return max((LEVELS.index(level_of(t.name)) for t in techniques), default=0)


def departures(techniques: Sequence[Technique]) -> tuple[Technique, ...]:
    """Return those of the techniques that are not exact."""
    return tuple(t for t in techniques if level_of(t.name) != "exact")


def in_order(techniques: Sequence[Technique]) -> tuple[Technique, ...]:
    """Return techniques in the order of application.

    First what changes the network or chooses what is trained, then what changes how layers compute, then what chooses
    data, and last what rearranges the step.
    """

    def rank(technique: Technique) -> tuple[int, int]:
        if technique.name in _BEFORE:
            return 0, _BEFORE.index(technique.name)
        return (2, _AFTER.index(technique.name)) if technique.name in _AFTER else (1, 0)

    return tuple(sorted(techniques, key=rank))


def brief(techniques: Sequence[Technique]) -> str:
    """Return techniques in the syntax of the command, with the parameters that are not at their defaults."""
    return ",".join(_brief(technique) for technique in techniques)


def _brief(technique: Technique) -> str:
    values = str(technique).partition("{")[2].removesuffix("}").split(",")
    own = [f for f in fields(technique) if f.init]  # type: ignore[arg-type]  # every technique is a dataclass
    told = [
        value
        for f, value in zip(own, values, strict=False)
        if f.default is MISSING or getattr(technique, f.name) != f.default
    ]
    return technique.name + ("{" + ",".join(told) + "}" if told else "")
