"""Memory on a GPU: kernel workspace, the caching allocator, and whether a step fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.summary import memory
from hwmodels.device import device
from simulator.allocators.replaying import replay_steps
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.report import to_json
from simulator.work import work_of
from workloads.tracer import trace


@pytest.fixture(scope="module")
def step() -> Graph:
    return trace("resnet8-cifar", batch=8)


@pytest.fixture(scope="module")
def tx2() -> Any:
    return device("jetson-tx2")


def test_only_convolutions_take_workspace_and_no_more_than_the_chip_allows(step: Graph, tx2: Any) -> None:
    taken = tx2.workspace_bytes(step)
    assert taken.shape == (len(step.ops),)
    assert taken.max() > 0
    assert all(op.kind.startswith("convolution") for op, size in zip(step.ops, taken, strict=True) if size)
    tight = replace(tx2, chip=replace(tx2.chip, workspace_bytes=1000.0))
    assert tight.workspace_bytes(step).max() <= 1000


def test_forward_passes_write_no_transformed_images_and_gradients_may(tx2: Any) -> None:
    # Filters transformed to 4x4 take 16/9 of the filters; the images' own are 36/16 of all operands for F(4x4, 3x3).
    step = trace("resnet18", batch=32)
    taken = dict(zip(((op.kind, op.layer) for op in step.ops), tx2.workspace_bytes(step).tolist(), strict=True))
    filters, images = 4 * 64 * 64 * 9, 4 * 32 * 64 * 56 * 56
    assert taken["convolution", "layer1.0.conv1"] == 16 * filters // 9
    assert taken["convolution_grad_weight", "layer1.0.conv1"] == 36 * filters // 9 + 2 * 36 * images // 16


def test_workspace_is_the_same_at_one_batch_size_and_among_several(step: Graph, tx2: Any) -> None:
    several = tx2.workspace_rows(work_of(step, [8, 64]))
    for column, batch in enumerate((8, 64)):
        assert several[:, column].tolist() == tx2.workspace_rows(work_of(step.rebatch(batch))).tolist()


def test_less_workspace_is_never_faster(step: Graph, tx2: Any) -> None:
    tight = replace(tx2, chip=replace(tx2.chip, workspace_bytes=0.0))
    assert estimate(step, tight).total.latency_s >= estimate(step, tx2).total.latency_s


def test_the_allocator_reserves_at_least_what_is_alive(step: Graph, tx2: Any) -> None:
    report = estimate(step, tx2)
    assert report.reserved is not None
    assert report.reserved.reserved_bytes >= report.reserved.allocated_bytes >= report.memory.peak_bytes
    assert report.needed_bytes == report.reserved.reserved_bytes


def test_a_step_fits_up_to_the_last_byte_that_the_allocator_reserves(step: Graph, tx2: Any) -> None:
    reserved = estimate(step, tx2).needed_bytes
    assert estimate(step, replace(tx2, memory_bytes=float(reserved))).fits
    short = estimate(step, replace(tx2, memory_bytes=float(reserved - 1)))
    assert not short.fits
    assert short.spare_bytes == -1


def test_the_report_shows_what_is_reserved_and_a_device_without_allocator_shows_nothing(step: Graph, tx2: Any) -> None:
    report = estimate(step, tx2)
    assert "reserved by the caching allocator" in memory(report)
    assert to_json(report)["results"][0]["memory"]["reserved_bytes"] == report.needed_bytes
    plain = estimate(step, device("tests/hwmodels/data/jetson-nano-roofline.toml"))
    assert plain.reserved is None
    assert "reserved by" not in memory(plain)
    assert plain.needed_bytes == plain.memory.peak_bytes


def test_gradients_that_are_kept_take_their_place_beside_the_new_ones(step: Graph) -> None:
    # From the second step on, backward begins with all gradients in place: it takes more, by their size at most.
    dropped, kept = replay_steps(step), replay_steps(step, keep_gradients=True)
    gradients = 4 * step.meta["parameters"]
    assert dropped.allocated_bytes < kept.allocated_bytes <= dropped.allocated_bytes + 1.1 * gradients
    once = replay_steps(step, steps=1)
    assert once == replay_steps(step, steps=1, keep_gradients=True)
