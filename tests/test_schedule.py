"""Ops in time."""

from __future__ import annotations

import numpy as np

from simulator.schedule import sequential


def test_ops_start_where_the_one_before_ends() -> None:
    timeline = sequential(np.array([1.0, 2.0, 4.0]), np.ones(3))
    assert timeline.start_s.tolist() == [0, 1, 3]
    assert timeline.end_s == 7


def test_an_op_that_runs_half_the_time_takes_half_the_time() -> None:
    timeline = sequential(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.5, 1.0]))
    assert timeline.duration_s.tolist() == [1, 1, 4]
    assert timeline.start_s.tolist() == [0, 1, 2]


def test_all_ops_of_a_sequential_schedule_share_one_resource() -> None:
    timeline = sequential(np.ones(4), np.ones(4))
    assert [timeline.resources[code] for code in timeline.resource] == ["device"] * 4


def test_nothing_takes_no_time() -> None:
    assert sequential(np.zeros(0), np.zeros(0)).end_s == 0
