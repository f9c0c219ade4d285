"""The physics that every Jetson's GPU obeys in every power mode."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.device import modes
from hwmodels.gpu.convolution import WINOGRAD_SAVING
from hwmodels.gpu.model import LIMITS
from simulator.units import show
from simulator.work import KERNELS, PARTS, stack
from tests.hwmodels.gpus import ALL, NAMES, NESTED, latency, row

models = st.sampled_from(sorted(ALL)).map(ALL.__getitem__)
extents = st.sampled_from([1, 2, 3, 7, 16, 33, 64, 129, 512])


@st.composite
def ops(draw: st.DrawFn) -> dict[str, Any]:
    kernel = draw(st.sampled_from(KERNELS))
    loops: dict[str, Any] = {name: draw(extents) for name in ("n", "k", "c", "p")}
    made = {"kernel": kernel, "dtype": draw(st.sampled_from(("float32", "float16", "bfloat16", "int8", "int64")))}
    if kernel in ("convolution", "depthwise"):
        loops |= {"q": draw(extents), "g": draw(st.sampled_from([1, 2, 32]))}
        loops["r"] = loops["s"] = draw(st.sampled_from([1, 3, 5, 7]))
        loops["stride_h"] = loops["stride_w"] = draw(st.sampled_from([1, 2]))
        made |= {"part": draw(st.sampled_from(PARTS)), "bias": draw(st.booleans())}
    elif kernel not in NESTED:
        loops = {name: draw(st.floats(0, 1e11)) for name in ("flops", "read", "written")}
    return {**made, **loops}


@given(models, ops())
def test_no_op_is_faster_than_the_peak_or_the_bandwidth_allow(model: Any, op: dict[str, Any]) -> None:
    work, chip = row(**op), model.chip
    matrix = chip.matrix_rate(op["dtype"], op["kernel"] == "convolution") * chip.cycles_per_s
    saving = WINOGRAD_SAVING if op["kernel"] == "convolution" else 1.0
    time = latency(model, work) * (1 + 1e-9)
    assert time >= 2 * work.macs[0] / saving / matrix
    if op["kernel"] == "convolution":
        assert time >= work.traffic_bytes[0] / chip.dram_byte_per_s
    assert time >= work.traffic_bytes[0] / max(chip.dram_byte_per_s, chip.l2_byte_per_s)
    assert time >= (work.traffic_bytes[0] - 2 * chip.l2_bytes) / chip.dram_byte_per_s


@given(models, ops())
def test_an_op_takes_time_and_energy_that_its_rails_add_up_to(model: Any, op: dict[str, Any]) -> None:
    cost = model.price(row(**op))
    assert np.isfinite(cost.latency_s).all()
    assert (cost.latency_s > 0).all()
    assert cost.energy_j[0] >= model.static_w * cost.latency_s[0] > 0
    assert sum(joules[0] for joules in cost.rails.values()) == pytest.approx(cost.energy_j[0], rel=1e-12)
    assert all(np.isfinite(column).all() and (column >= 0).all() for column in cost.seconds.values())
    assert cost.bound[0] in range(1, len(LIMITS))


@given(models, ops(), st.sampled_from(["units", "clock_hz", "dram_byte_per_s", "l2_bytes", "l2_byte_per_cycle"]))
def test_a_chip_with_more_of_anything_is_never_slower(model: Any, op: dict[str, Any], what: str) -> None:
    better = dataclasses.replace(model, chip=dataclasses.replace(model.chip, **{what: getattr(model.chip, what) * 2}))
    assert latency(better, row(**op)) <= latency(model, row(**op)) * (1 + 1e-12)


@given(models, ops(), st.sampled_from(["n", "k", "c", "p", "q"]), st.integers(1, 64))
def test_more_images_channels_or_positions_are_never_cheaper(
    model: Any, op: dict[str, Any], what: str, more: int
) -> None:
    if what not in op:
        return
    less, most = model.price(row(**op)), model.price(row(**{**op, what: op[what] + more}))
    assert most.latency_s[0] >= less.latency_s[0] * (1 - 1e-12)
    assert most.energy_j[0] >= less.energy_j[0] * (1 - 1e-12)


@given(models, st.lists(ops(), min_size=1, max_size=4))
def test_rows_are_priced_each_on_its_own_and_at_many_points_as_at_one(model: Any, many: list[dict[str, Any]]) -> None:
    works = [row(**op) for op in many]
    table = stack(works)
    alone = np.array([latency(model, work) for work in works])
    np.testing.assert_allclose(model.price(table).latency_s, alone, rtol=1e-13)
    columns = ("macs", "flops", "read_bytes", "written_bytes")
    points = dataclasses.replace(
        table,
        **{name: np.stack([getattr(table, name)] * 3, axis=1) for name in columns},
        nest={name: np.stack([column] * 3, axis=1) for name, column in table.nest.items()},
    )
    cost = model.price(points)
    np.testing.assert_allclose(cost.latency_s, np.stack([alone] * 3, axis=1), rtol=1e-13)
    assert cost.dispatch_s is not None
    assert cost.dispatch_s.shape == cost.latency_s.shape


@given(st.sampled_from(NAMES), ops())
def test_a_power_mode_with_higher_clocks_is_never_slower(name: str, op: dict[str, Any]) -> None:
    price = {mode: ALL[name, mode].price(row(**op)) for mode in modes(name)}
    for slow in modes(name):
        for fast in modes(name):
            clocks = {m: ALL[name, m].card["clocks"] for m in (slow, fast)}
            if all(clocks[fast][c]["value"] >= clocks[slow][c]["value"] for c in clocks[slow] if c != "host_cores"):
                assert price[fast].latency_s[0] <= price[slow].latency_s[0] * (1 + 1e-12)
                assert price[fast].dispatch_s[0] <= price[slow].dispatch_s[0] * (1 + 1e-12)


@given(models, st.sampled_from(KERNELS), st.floats(0, 1e12), st.floats(0, 1e12))
def test_a_row_whose_nest_says_nothing_of_its_macs_is_no_faster_than_the_peak(
    model: Any, kernel: str, macs: float, traffic: float
) -> None:
    work = row("elementwise", read=traffic)
    work = dataclasses.replace(
        work, kernel=np.array([KERNELS.index(kernel)]), macs=np.array([macs]), flops=np.array([2 * macs])
    )
    time = latency(model, work)
    assert np.isfinite(time)
    if kernel in NESTED or kernel == "rnn":
        assert time >= 2 * (macs - 1) / max(model.card["peaks"][p]["value"] for p in model.card["peaks"]) * (1 - 1e-9)


def test_rows_of_nothing_are_priced_without_nan() -> None:
    for kernel in KERNELS:
        work = row("elementwise", n=0, k=0, c=0, p=0)
        work = dataclasses.replace(work, kernel=np.array([KERNELS.index(kernel)]))
        for model in ALL.values():
            cost = model.price(work)
            assert np.isfinite(cost.latency_s).all()
            assert np.isfinite(cost.energy_j).all()


def test_pricing_leaves_the_work_as_it_was_and_gives_the_same_twice() -> None:
    work = stack([row("convolution", p, n=4, k=32, c=16, p=14, q=14, r=3, s=3) for p in PARTS])
    before = pickle.dumps(work)
    model = ALL["jetson-tx2", "MAXN"]
    first, second = model.price(work), model.price(work)
    assert pickle.dumps(work) == before
    assert pickle.dumps(first) == pickle.dumps(second)
    assert model.price(dataclasses.replace(work, part=np.zeros(4, dtype=np.int64))).latency_s.shape == (4,)


@given(models, ops())
def test_the_explanation_of_a_row_ends_with_its_price(model: Any, op: dict[str, Any]) -> None:
    work = stack([row("elementwise", flops=1e6), row(**op)])
    cost = model.price(work)
    lines = dict(model.explain(work, 1))
    assert lines["latency"].endswith("= " + show(float(cost.latency_s[1]), "s"))
    assert lines["energy"] == show(float(cost.energy_j[1]), "J")
    assert list(lines)[-3:] == ["latency", "energy", "bound by"]
