"""What an op meets in a step and not alone: operands that left the caches, and the framework around it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from hwmodels.device import device
from simulator.estimate import estimate, work_in_step
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from simulator.reuse import placed, shares_beyond
from simulator.work import Work, work_of
from tests.conftest import conv_relu_linear
from tests.hwmodels.cpu_rows import convolution, work_of_rows

MEGABYTE = 262_144  # float32 elements


def chain() -> Graph:
    """Four ops on megabytes: a -> b -> c, then a again with c, then the last again with c."""
    layout = Layout((MEGABYTE,), (1,), "float32")
    storages = (
        Storage(4 * MEGABYTE, "input", -1, None),
        Storage(4 * MEGABYTE, "activation", 0, None),
        Storage(4 * MEGABYTE, "activation", 1, None),
        Storage(4 * MEGABYTE, "activation", 2, None),
        Storage(4 * MEGABYTE, "activation", 3, None),
    )
    calls = (("relu", (0,), 1), ("relu", (1,), 2), ("add", (0, 2), 3), ("add", (3, 2), 4))
    ops = tuple(Op(f"aten::{kind}", kind, "forward", "", ins, (out,)) for kind, ins, out in calls)
    return Graph(ops, tuple(Tensor(layout, i) for i in range(5)), storages, {"batch": 1})


def test_distances_are_the_bytes_touched_since_an_operand_was_last() -> None:
    """By hand, in MB. Ops touch 2, 2, 3, 3. Results are new memory in the first step and last step's after it.

    Op 1 reads b, touched last by op 0: distance 0. Op 2 reads a, touched last before op 1 (2), and c (0). Op 3 reads d
    and c (0 both). The result of each op lies where the heap ended in the step before, further away than 1.5 MB.
    """
    touching = np.ones(4, dtype=np.bool_)
    half, more = shares_beyond(chain(), touching, (0.5 * 2**20, 2.5 * 2**20)).T
    assert half[1] == pytest.approx(1 / 2)  # its result alone
    assert half[2] == pytest.approx(2 / 3)  # a and its result
    assert half[3] == pytest.approx(1 / 3)
    assert more[2] < half[2]  # a is 2 MB away: within 2.5


def test_a_cache_that_holds_the_whole_step_is_never_left_but_by_nothing() -> None:
    graph = conv_relu_linear(4)
    work = work_of(graph)
    everything = placed(work, graph, 1e12, 1e12)
    nothing = placed(work, graph, 0.0, 0.0)
    assert np.all(everything.off_chip[everything.launches > 0] <= nothing.off_chip[nothing.launches > 0].max())
    assert nothing.off_chip.max() > 0


def test_placing_changes_where_operands_are_and_no_amount_of_work() -> None:
    graph = conv_relu_linear(4)
    plain = work_of(graph)
    found = placed(plain, graph, 1e3, 1e4)
    for name in ("macs", "flops", "read_bytes", "written_bytes", "launches"):
        column, before = getattr(found, name), getattr(plain, name)
        assert np.array_equal(column[found.row_of_op], before[plain.row_of_op])
    assert np.all(found.off_core >= found.off_chip)


def _streams(off_core: float, off_chip: float) -> Work:
    rows = [{"read": 4e5, "written": 2e5}, convolution("forward", 4, 64, 64, 14, 14)]
    away = {"off_core": np.full(2, off_core), "off_chip": np.full(2, off_chip)}
    return replace(work_of_rows(rows), **away)


def test_operands_take_longer_the_further_they_have_gone() -> None:
    model = device("x86-avx512")
    times = [model.price(_streams(*away)).latency_s for away in ((-1, -1), (0, 0), (1, 0), (1, 0.5), (1, 1))]
    assert np.array_equal(times[0], times[1])
    for near, far in itertools.pairwise(times):
        assert np.all(far >= near)
    assert times[-1][0] > 2 * times[0][0]  # from memory, not from the second cache


def test_the_framework_adds_its_time_to_every_launch_of_a_step() -> None:
    model = device("x86-avx512")
    work = _streams(0, 0)
    added = model.price(replace(work, framework=np.ones(2))).latency_s - model.price(work).latency_s
    assert added == pytest.approx(model.step.dispatch_s, rel=1e-9)


def test_a_device_that_says_nothing_of_steps_prices_ops_as_if_alone() -> None:
    graph = conv_relu_linear(4)
    work = work_in_step(graph, device("x86-avx2"))
    assert np.all(work.off_chip == -1)
    assert not work.framework.any()


def test_a_step_on_a_device_that_follows_operands_takes_longer_than_its_ops_alone() -> None:
    graph, model = conv_relu_linear(4), device("x86-avx512")
    alone = work_of(graph)
    assert estimate(graph, model).total.latency_s > alone.total(model.price(alone).latency_s)
