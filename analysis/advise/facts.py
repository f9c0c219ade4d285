"""What is published about the accuracy that techniques cost: one TOML file a paper, in the folder `accuracy`.

A fact is the accuracy in percent that a network reached on a data set with techniques, and without (`plain`). It holds
for that network and that composition; nothing is interpolated. What leaves gradients exact does not matter to it, and
neither does `freeze-bn`, which the publications on fine-tuning imply.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from analysis.advise.levels import departures
from simulator.techniques import Technique, parse

FOLDER = Path(__file__).parent / "accuracy"


@dataclass(frozen=True)
class Fact:
    """`accuracy` and `plain` in percent; `source` cites where they were read."""

    network: str
    dataset: str
    techniques: tuple[Technique, ...]
    plain: float
    accuracy: float
    source: str

    @property
    def lost_points(self) -> float:
        return self.plain - self.accuracy

    @property
    def kept(self) -> float:
        """The accuracy as a share of that of plain training."""
        return self.accuracy / self.plain

    def __str__(self) -> str:
        return f"{-self.lost_points:+.1f} points on {self.dataset} ({self.source})"


@cache
def facts() -> tuple[Fact, ...]:
    """Return all published facts."""
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        paper = document["paper"]
        for group in document["facts"]:
            source = f"{paper['authors'].partition(',')[0]} {paper['published'][-4:]}, {group['where']}"
            for text, accuracy in group["rows"]:
                found.append(Fact(group["network"], group["dataset"], parse(text), group["plain"], accuracy, source))
    return tuple(found)


@dataclass(frozen=True)
class Accuracy:
    """What is known about the accuracy of a composition: nothing to lose (`exact`), the `facts` found, or neither.

    Where several facts are found, the worst counts.
    """

    exact: bool
    facts: tuple[Fact, ...]

    @property
    def known(self) -> bool:
        return self.exact or bool(self.facts)

    @property
    def lost_points(self) -> float:
        """Points lost, as far as is known; 0 where nothing is."""
        return max((fact.lost_points for fact in self.facts), default=0.0)

    @property
    def kept(self) -> float | None:
        """The share of plain training's accuracy that is kept; None where that is not known."""
        return 1.0 if self.exact else min((fact.kept for fact in self.facts), default=None)

    def __str__(self) -> str:
        if self.exact:
            return "as plain training"
        return max(self.facts, key=lambda fact: fact.lost_points).__str__() if self.facts else "not known"


def accuracy(network: str, techniques: Sequence[Technique]) -> Accuracy:
    """Return what is known of `techniques` on `network`."""
    wanted = _key(techniques)
    return Accuracy(
        not departures(techniques),
        tuple(fact for fact in facts() if fact.network == network and _key(fact.techniques) == wanted),
    )


def related(network: str, techniques: Sequence[Technique]) -> tuple[Fact, ...]:
    """Return facts on `network` of the same kinds of technique at other settings."""
    names = {t.name for t in departures(techniques)} - {"freeze-bn"}
    return tuple(
        fact for fact in facts() if fact.network == network and names and {t.name for t in fact.techniques} == names
    )


def published(network: str) -> tuple[tuple[Technique, ...], ...]:
    """Return the compositions whose accuracy on `network` is published, each once."""
    found = {_key(fact.techniques): fact.techniques for fact in facts() if fact.network == network}
    return tuple(found.values())


def _key(techniques: Sequence[Technique]) -> frozenset[str]:
    return frozenset(str(t) for t in departures(techniques) if t.name != "freeze-bn")
