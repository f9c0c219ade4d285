# ruff: noqa: UP006, UP035
"""How fast the machine is at the moment, by a product of matrices that is always the same.

A neighbour on a core's other thread (of a virtual machine, one never sees it), another process, a lower clock on a hot
board: each slows what is measured, and a probe beside it just as much. Which repeats count is decided by the probes
alone and never by a repeat's own time, so the choice favours no time but that of the machine left alone.
"""

import time
from bisect import insort
from statistics import median
from typing import Any, Callable, Dict, List, Tuple

import torch

SLOWED = 1.1
"""A probe that takes so many times the quickest one tells that the machine is held up."""
PATIENCE = 3
"""At most so many times the repeats that are asked for are made to find quiet ones."""
SIDE, SIDE_OF_THREADS = 160, 384
"""Of the matrices: three of them leave most of a second-level cache to what is measured; several threads have so much
to do that waking them counts little."""
PROBE_S = 4e-4
FIRST_PROBES = 50
QUICK = 0.05
"""The quickest probe is that at this quantile: when threads wake is chance, and a single one may be lucky."""


class Unwatched:
    """The pace of a machine that is not probed: always the same."""

    def probe(self) -> float:
        """Return the same each time."""
        return 1.0

    def quick_s(self) -> float:
        """Return what a probe takes when the machine is left alone, as far as was seen."""
        return 1.0


class Pace(Unwatched):
    """Probes this processor with as many threads as PyTorch has now."""

    def __init__(self) -> None:
        side = SIDE if torch.get_num_threads() == 1 else SIDE_OF_THREADS
        self._factor = torch.ones(side, side)
        self._calls = 1
        self._taken: List[float] = []
        for _ in range(FIRST_PROBES):
            self.probe()
        self._calls = max(1, round(PROBE_S / self.quick_s()))
        self._taken = []
        for _ in range(FIRST_PROBES):
            self.probe()

    def probe(self) -> float:
        """Return the seconds of a probe now."""
        with torch.no_grad():
            torch.mm(self._factor, self._factor)  # what ran before has driven the matrices out of the caches
            begun = time.perf_counter()
            for _ in range(self._calls):
                torch.mm(self._factor, self._factor)
            taken = time.perf_counter() - begun
        insort(self._taken, taken)
        return taken

    def quick_s(self) -> float:
        """Return what a probe takes when the machine is left alone, as far as was seen."""
        return self._taken[int(QUICK * len(self._taken))]


class Steady:
    """Of the repeats of one thing, keeps those that ran while the machine was as fast as ever.

    `repeats` are asked for; where fewer of `PATIENCE` times as many are quiet, the ones beside the quickest probes are
    kept.
    """

    def __init__(self, repeats: int, pace: Unwatched) -> None:
        self._repeats, self._pace = max(repeats, 1), pace
        self._taken: List[Tuple[float, Any]] = []

    def once(self, run: Callable[[], Any]) -> None:
        """Make a repeat, between two probes, and note what `run` returns."""
        before_s = self._pace.probe()
        found = run()
        self._taken.append((max(before_s, self._pace.probe()), found))

    def count(self) -> int:
        """Return how many repeats were made."""
        return len(self._taken)

    def enough(self) -> bool:
        """Tell whether no more repeats are needed."""
        return len(self._quiet()) >= self._repeats or len(self._taken) >= PATIENCE * self._repeats

    def kept(self) -> List[Any]:
        """Return what the repeats that count found."""
        return [found for _, found in self._chosen()]

    def slowed(self) -> float:
        """Return how many times the quickest probe those beside the kept repeats took: above `SLOWED`, the machine was
        held up all along."""
        return median(probe_s for probe_s, _ in self._chosen()) / self._pace.quick_s()

    def _quiet(self) -> List[Tuple[float, Any]]:
        quick_s = self._pace.quick_s()
        return [one for one in self._taken if one[0] <= SLOWED * quick_s]

    def _chosen(self) -> List[Tuple[float, Any]]:
        quickest_first = sorted(self._taken, key=lambda one: one[0])
        return quickest_first[: max(self._repeats, len(self._quiet()))]


UNWATCHED = Unwatched()
_PACES: Dict[int, Pace] = {}
"""By number of threads: what has probed longest knows best how fast the machine can be."""


def this_pace(device: str = "cpu", window_s: float = 0.0) -> Unwatched:
    """Return the pace of what runs on `device` with as many threads as PyTorch has now.

    Nothing is probed on a graphics processor, nor within a window of power: there nothing else may run.
    """
    if device == "cuda" or window_s:
        return UNWATCHED
    threads = torch.get_num_threads()
    if threads not in _PACES:
        _PACES[threads] = Pace()
    return _PACES[threads]
