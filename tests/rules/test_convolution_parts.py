"""Forward, grad-input and grad-weight of a convolution share a nest and are told apart by their part."""

from __future__ import annotations

import numpy as np

from analysis.claims.cpu_metrics import Step
from simulator.work import PARTS, stack

ATTRS = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "transposed": False}


def a_step() -> Step:
    step = Step("float32")
    x, w, dy = step.tensor(2, 3, 8, 8), step.tensor(16, 3, 3, 3), step.tensor(2, 16, 8, 8)
    step.op("forward", "convolution", (x, w), (2, 16, 8, 8), **ATTRS)
    step.op("forward", "relu", (dy,), (2, 16, 8, 8))
    step.op("backward", "convolution_grad_input", (dy, w), (2, 3, 8, 8), **ATTRS)
    step.op("backward", "convolution_grad_weight", (dy, x), (16, 3, 3, 3), **ATTRS)
    step.op("backward", "convolution_grad_bias", (dy,), (16,), **ATTRS)
    return step


def test_the_three_phases_of_a_convolution_have_parts_and_every_other_op_has_none() -> None:
    work = a_step().work()
    assert [PARTS[code] for code in work.part[work.row_of_op]] == ["forward", "", "input", "weight", ""]
    assert len({tuple(column[row] for column in work.nest.values()) for row in work.row_of_op[[0, 2, 3]]}) == 1


def test_stacked_work_keeps_the_parts() -> None:
    work = a_step().work()
    both = stack([work, work])
    np.testing.assert_array_equal(both.part, np.concatenate([work.part, work.part]))
