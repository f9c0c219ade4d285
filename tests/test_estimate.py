"""What a step costs: by hand on a device of round numbers, and laws that hold for every estimate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost import Cost
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.report import SCHEMA, Change, Totals, parameters, saving, to_json
from simulator.work import Work, work_of


def added(parts: list[Totals]) -> tuple[float, ...]:
    return astuple(sum(parts, Totals()))


def test_one_matrix_product_costs_what_it_costs_by_hand(step: Graph, flat: Any) -> None:
    # op 10: (4 x 10) by (10 x 256): 10,240 MACs, 20,480 FLOPs; reads 40 + 2560 floats, writes 1024.
    # 20.48 us of arithmetic against 14.496 us of traffic at 1 GFLOP/s and 1 GB/s; 2 W.
    ops = estimate(step, flat).ops
    assert (ops.macs[10], ops.flops[10]) == (10240, 20480)
    assert (ops.read_bytes[10], ops.written_bytes[10]) == (10400, 4096)
    assert ops.latency_s[10] == pytest.approx(20.48e-6)
    assert ops.energy_j[10] == pytest.approx(40.96e-6)


def test_the_convolution_counts_its_loop_nest_in_forward_and_weight_gradient(step: Graph, flat: Any) -> None:
    # 4 images x 4 channels x 8x8 positions x 3 channels x 3x3 taps = 27,648 MACs (and no grad-input)
    ops = estimate(step, flat).ops
    assert (ops.macs[0], ops.macs[15], ops.macs[16]) == (27648, 27648, 0)


def test_views_take_no_time(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    assert [report.ops.latency_s[i] for i in (2, 3, 13)] == [0, 0, 0]


def test_phases_layers_kinds_and_kernels_each_add_up_to_the_total(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    for split in (report.phases, report.layers, report.kinds, report.kernels):
        assert added(list(split.values())) == pytest.approx(astuple(report.total))
    assert sum(report.bounds.values()) == pytest.approx(1)


def test_phases_come_in_the_order_of_the_step(step: Graph, flat: Any) -> None:
    assert list(estimate(step, flat).phases) == ["forward", "loss", "backward", "optimizer", "other"]


def test_the_total_agrees_with_the_work_and_with_the_timeline(step: Graph, flat: Any) -> None:
    report, work = estimate(step, flat), work_of(step)
    assert report.total.macs == work.total(work.macs)
    assert report.total.traffic_bytes == work.total(work.traffic_bytes)
    assert report.timeline.end_s == pytest.approx(report.total.latency_s)


@given(st.floats(0.01, 4))
def test_what_adds_up_is_linear_in_the_runs_and_the_peak_ignores_them(
    make_step: Callable[[int], Graph], flat: Any, runs: float
) -> None:
    step = make_step(4)
    once = estimate(step, flat)
    often = estimate(replace(step, ops=tuple(replace(op, runs=runs) for op in step.ops)), flat)
    assert astuple(often.total) == pytest.approx([runs * value for value in astuple(once.total)])
    assert often.memory.peak_bytes == once.memory.peak_bytes


@given(st.integers(2, 200))
def test_a_larger_batch_costs_more_of_everything(make_step: Callable[[int], Graph], flat: Any, batch: int) -> None:
    small, large = (estimate(make_step(b), flat) for b in (batch, batch + 1))
    assert all(a < b for a, b in zip(astuple(small.total), astuple(large.total), strict=True))
    assert small.memory.peak_bytes < large.memory.peak_bytes


def test_estimating_twice_gives_the_same_document(step: Graph, flat: Any) -> None:
    assert to_json(estimate(step, flat)) == to_json(estimate(step, flat))


def test_the_workspace_of_the_device_is_in_the_peak(step: Graph, flat: Any) -> None:
    assert estimate(step, replace(flat, extra=1000)).memory.peak_bytes == 47296 + 1000


def test_a_step_fits_up_to_the_last_byte(step: Graph, flat: Any) -> None:
    assert estimate(step, replace(flat, memory_bytes=47296)).fits
    short = estimate(step, replace(flat, memory_bytes=47295))
    assert not short.fits
    assert short.spare_bytes == -1


def test_an_op_without_a_rule_stops_the_estimate_and_is_named(step: Graph, flat: Any) -> None:
    strange = replace(step, ops=(replace(step.ops[0], kind="warp_drive"), *step.ops[1:]))
    with pytest.raises(TrainwattError, match="warp_drive"):
        estimate(strange, flat)


def test_an_op_without_a_rule_counts_nothing_where_asked_and_is_among_the_assumptions(step: Graph, flat: Any) -> None:
    strange = replace(step, ops=(replace(step.ops[0], kind="warp_drive"), *step.ops[1:]))
    report = estimate(strange, flat, unknown="list")
    assert report.ops.latency_s[0] == 0
    assert "warp_drive" in report.assumptions[0]


def test_parameters_are_counted_in_elements(step: Graph) -> None:
    assert parameters(step) == 108 + 4 + 2560 + 10


def test_savings_are_fractions_of_the_baseline(step: Graph, flat: Any) -> None:
    half = replace(step, ops=tuple(replace(op, runs=0.5) if op.phase == "backward" else op for op in step.ops))
    base, report = estimate(step, flat), estimate(half, flat)
    saved = saving(base, report)
    assert saved.phases["backward"]["latency_s"].saved_fraction == pytest.approx(0.5)
    assert saved.phases["forward"]["energy_j"].saved == 0
    assert saved.total["latency_s"].saved == pytest.approx(base.phases["backward"].latency_s / 2)
    assert saved.peak_bytes.ratio == 1


def test_nothing_is_saved_of_nothing() -> None:
    assert Change(0, 0).saved_fraction is None
    assert Change(0, 3).ratio is None


def test_the_document_is_strict_json_with_its_schema(step: Graph, flat: Any) -> None:
    base = estimate(step, flat)
    document = to_json([base, replace(base, baseline=base)])
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    assert (document["schema"], document["version"]) == (SCHEMA, 1)
    first, second = document["results"]
    assert first["savings"] is None
    assert second["savings"]["latency_s"]["saved_fraction"] == 0
    assert first["latency_s"] == base.total.latency_s
    assert first["memory"]["peak_op"] == {
        "index": 14,
        "name": "aten::threshold_backward",
        "kind": "threshold_backward",
        "layer": "relu",
        "phase": "backward",
    }


def test_energy_that_is_not_known_is_null(step: Graph, flat: Any) -> None:
    class Dark(type(flat)):  # type: ignore[misc]
        def price(self, work: Work) -> Cost:
            cost = super().price(work)
            return replace(cost, energy_j=np.full_like(cost.energy_j, np.nan))

    assert to_json(estimate(step, Dark()))["results"][0]["energy_j"] is None


def test_values_that_a_step_reads_are_named_as_an_assumption(step: Graph, flat: Any) -> None:
    reading = replace(step, meta={**step.meta, "values_assumed_in": ["encoder.mask"]})
    assert "taken as true, 0.0 or 1, in encoder.mask" in estimate(reading, flat).assumptions[0]
