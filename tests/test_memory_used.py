"""Memory that the system counts as used: what the fitted model finds again, and what it does not claim to know."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.calibration.memory_used import MemoryUsed, Steps, fit_memory_used
from simulator.errors import TrainwattError
from simulator.work import Floats, Ints

GB = 1e9
BATCHES = np.array([2.0, 4.0, 8.0, 16.0, 32.0, 64.0])


def steps(widths: list[float], first_graph: int = 0) -> Steps:
    """Return networks of so many times 0.1 GB of parameters, at all batch sizes, larger ones with larger images."""
    width, batch = (grid.ravel() for grid in np.meshgrid(widths, BATCHES, indexing="ij"))
    graph: Ints = np.repeat(np.arange(len(widths)), len(BATCHES)) + first_graph
    return Steps(0.3 * GB * width + 0.05 * GB * width**0.5 * batch, 0.1 * GB * width, graph)


def smooth(some: Steps) -> Floats:
    """Return used memory of steps that need more of it beside what they allocate the larger they are."""
    used: Floats = 1.0 * GB + some.allocated_bytes * (1.0 + 0.1 * np.log2(some.allocated_bytes / GB))
    return used


def worst(found: MemoryUsed, some: Steps, used: Floats) -> float:
    return float(np.abs(found.bytes(some) / used - 1.0).max())


def test_networks_between_measured_ones_are_found_from_a_smooth_law() -> None:
    known, new = steps([0.2, 0.5, 1.0]), steps([0.3, 0.7], 3)
    assert worst(fit_memory_used(known, smooth(known)), new, smooth(new)) < 0.01


def test_two_points_suffice_for_a_line() -> None:
    new = steps([1.0])
    used = 1.0 * GB + 1.2 * new.allocated_bytes
    known = np.array([True, False, False, False, False, True])
    assert worst(fit_memory_used(new.some(known), used[known]), new, used) < 0.02


def test_flat_ends_are_limits_and_do_not_bend_what_lies_between() -> None:
    low, high = 1.4 * GB, 3.0 * GB
    known, new = steps([0.2, 0.5, 1.0]), steps([0.3, 0.7], 3)
    found = fit_memory_used(known, np.clip(smooth(known), low, high))
    assert (found.floor_bytes, found.ceiling_bytes) == (low, high)
    # The law itself goes 20 % below the floor and 40 % above the ceiling.
    assert worst(found, new, np.clip(smooth(new), low, high)) < 0.02


def test_an_end_that_is_not_flat_limits_nothing() -> None:
    known, larger = steps([0.2, 0.5, 1.0]), steps([1.5], 3)
    found = fit_memory_used(known, smooth(known))
    assert found.floor_bytes == 0.0
    assert found.ceiling_bytes == np.inf
    assert found.bytes(larger).max() > smooth(known).max()


def test_what_one_graph_alone_is_off_by_is_not_expected_of_others() -> None:
    known, new = steps([0.2, 0.35, 0.5, 0.7, 1.0]), steps([0.45, 0.6], 5)
    # Every other graph needs 10 % more: as a function of size that would be a wave.
    used = smooth(known) * (1.0 + 0.1 * (known.graph % 2))
    found = fit_memory_used(known, used).bytes(new) / smooth(new)
    assert found.min() > 1.0
    assert found.max() < 1.1


@pytest.mark.parametrize(
    ("used", "said"),
    [(np.full(6, np.nan), "no finite number"), (np.ones(5), "no finite number"), (np.full(6, GB), "measure at least")],
)
def test_what_cannot_be_fitted_is_refused(used: Floats, said: str) -> None:
    with pytest.raises(TrainwattError, match=said):
        fit_memory_used(steps([1.0]), used)


def test_steps_whose_columns_do_not_match_are_refused() -> None:
    with pytest.raises(TrainwattError, match="one of each a step"):
        Steps(np.ones(3), np.ones(2), np.zeros(3, dtype=np.int64))
    with pytest.raises(TrainwattError, match="allocates nothing"):
        Steps(np.zeros(2), np.ones(2), np.zeros(2, dtype=np.int64))
