"""What makes one configuration better than another."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.advise.candidate import Candidate
from analysis.advise.levels import LEVELS

Key = tuple[float, ...]


def _accurate(candidate: Candidate, samples: int) -> Key:
    """Order by how far a configuration departs from plain training.

    By level; by the number of techniques that depart from plain training; among approximations, known accuracy costs
    before unknown ones and small before large; by the share of the parameters that are trained; by how far the samples
    of an update, and those that batch norms take statistics over, are from those asked for; by time, the least first,
    but of approximations of unknown cost the one that saves least, as it departs least.
    """
    approximate = candidate.level >= LEVELS.index("approximate")
    time = candidate.latency_s * candidate.epoch_steps
    return (
        candidate.level,
        candidate.departures,
        approximate and not candidate.accuracy.known,
        candidate.accuracy.lost_points if approximate else 0.0,
        -candidate.trained,
        abs(math.log2(candidate.samples / samples)),
        abs(math.log2(candidate.normed / samples)) if candidate.normed else 0.0,
        -time if approximate and not candidate.accuracy.known else time,
    )


def _fastest(candidate: Candidate, samples: int) -> Key:
    return (candidate.latency_s * candidate.epoch_steps, *_accurate(candidate, samples))


def _least_energy(candidate: Candidate, samples: int) -> Key:
    return (candidate.energy_j * candidate.epoch_steps, *_accurate(candidate, samples))


def _largest_batch(candidate: Candidate, samples: int) -> Key:
    return (-candidate.batch, *_accurate(candidate, samples))


OBJECTIVES: dict[str, Callable[[Candidate, int], Key]] = {
    "accurate": _accurate,
    "fastest": _fastest,
    "least-energy": _least_energy,
    "largest-batch": _largest_batch,
}
"""How candidates are ordered, the best first, given the samples of an update that were asked for."""
