"""Where ops lie in time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost import Cost
from simulator.schedule import dispatched, sequential, timeline

SECONDS = st.floats(0, 100)


def test_a_sequential_schedule_runs_ops_back_to_back() -> None:
    placed = sequential(np.array([1.0, 2.0, 4.0]))
    assert placed.start_s.tolist() == [0, 1, 3]
    assert placed.step_s.tolist() == [1, 2, 4]
    assert placed.end_s == 7
    assert {placed.resources[code] for code in placed.resource} == {"device"}


def test_ops_that_rarely_run_take_their_expected_time() -> None:
    cost = Cost(np.array([1.0, 2.0, 4.0]), np.zeros(3), np.zeros(3, dtype=np.int8))
    placed = timeline(cost, np.array([0, 1, 2]), np.array([1.0, 0.5, 1.0]))
    assert placed.duration_s.tolist() == [1, 1, 4]
    assert placed.start_s.tolist() == [0, 1, 2]


def test_a_step_without_ops_ends_at_once() -> None:
    assert sequential(np.zeros(0)).end_s == 0
    assert dispatched(np.zeros(0), np.zeros(0)).end_s == 0


def test_a_slow_host_bounds_a_queue_of_short_ops() -> None:
    # the host is done with the ops at 3, 6, 9; each executes in 1 at once: ends at 4, 7, 10
    placed = dispatched(np.ones(3), np.full(3, 3.0))
    assert placed.start_s.tolist() == [3, 6, 9]
    assert placed.step_s.tolist() == [4, 3, 3]


def test_a_fast_host_is_hidden_behind_long_ops() -> None:
    # dispatched at 1, 2, 3; the first executes until 11, the others back to back
    placed = dispatched(np.full(3, 10.0), np.ones(3))
    assert placed.start_s.tolist() == [1, 11, 21]
    assert placed.end_s == 31


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=30))
def test_a_dispatched_step_takes_at_least_either_queue_and_at_most_both(ops: list[tuple[float, float]]) -> None:
    duration, dispatch = (np.array(column) for column in zip(*ops, strict=True))
    placed = dispatched(duration, dispatch)
    end = 0.0
    host = 0.0
    for seconds, launch in ops:  # the recurrence, op by op
        host += launch
        end = max(end, host) + seconds
    assert placed.end_s == pytest.approx(end)
    assert max(duration.sum(), dispatch.sum()) <= placed.end_s * (1 + 1e-9)
    assert placed.end_s <= duration.sum() + dispatch.sum() + 1e-9
    assert placed.step_s.sum() == pytest.approx(end)


def test_many_points_are_placed_at_once() -> None:
    duration, dispatch = np.array([[1.0, 9.0], [2.0, 3.0]]), np.array([[4.0, 4.0], [4.0, 4.0]])
    together = dispatched(duration, dispatch)
    for point in range(2):
        alone = dispatched(duration[:, point], dispatch[:, point])
        assert together.start_s[:, point].tolist() == alone.start_s.tolist()
