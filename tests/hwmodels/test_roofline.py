"""The roofline: prices by hand, and the physics that every device obeys in every power mode."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.device import device, modes
from hwmodels.roofline import CLASS_OF_KERNEL, EFFICIENCIES, Roofline
from simulator.cost import BOUNDS
from simulator.errors import TrainwattError
from simulator.graph import Graph, Layout, Op, Storage, Tensor
from simulator.work import KERNELS, Nest, Work
from tests.hwmodels.roofline_devices import FILES

ALL: dict[tuple[str, str], Any] = {(Path(f).stem, mode): device(f, mode) for f in FILES for mode in modes(f)}
DTYPES = ("float32", "float16", "bfloat16", "float64", "int8", "int64", "bool")


def work_of_rows(rows: list[dict[str, Any]]) -> Work:
    """Work with one op per row; a column that is an array has one number per point."""

    def column(name: str, default: float = 0.0) -> Any:
        return np.array([row.get(name, default) for row in rows], dtype=np.float64)

    dtypes = tuple(dict.fromkeys(row.get("dtype", "float32") for row in rows))
    shape = column("macs").shape
    nest = {name: np.ones(shape) for name in Nest._fields}
    nest["c"], nest["k"] = (np.broadcast_to(column(n, 1.0).T, shape[::-1]).T for n in ("c", "k"))
    return Work(
        kernel=np.array([KERNELS.index(row.get("kernel", "elementwise")) for row in rows], dtype=np.int64),
        dtype=np.array([dtypes.index(row.get("dtype", "float32")) for row in rows], dtype=np.int64),
        dtypes=dtypes,
        launches=column("launches", 1.0),
        macs=column("macs"),
        flops=column("flops"),
        read_bytes=column("read"),
        written_bytes=column("written"),
        nest=nest,
        row_of_op=np.arange(len(rows)),
        runs=np.ones(len(rows)),
    )


def a_roofline(**changes: Any) -> Roofline:
    """A device of round numbers: 100 GFLOP/s, 10 GB/s of which half is reached, 1 ms a launch, 2 W + 1 W."""
    base: dict[str, Any] = {
        "name": "round",
        "mode": "only",
        "launch_overlaps": True,
        "peak_flop_per_s": {"float32": 100e9, "float16": 200e9},
        "efficiency": {"convolution": 0.5, "depthwise": 0.1, "gemm": 0.8, "attention": 0.4, "vector": 0.2},
        "half_channels": 0.0,
        "tile_channels": 0.0,
        "peak_byte_per_s": 10e9,
        "bandwidth_efficiency": 0.5,
        "launch_s": 1e-3,
        "static_w": 2.0,
        "active_w": 1.0,
        "energy_j_per_flop": {"float32": 10e-12, "float16": 5e-12},
        "energy_j_per_byte": 100e-12,
        "memory_bytes": 1e9,
    }
    return Roofline(**{**base, **changes})


def priced(model: Any, **row: Any) -> tuple[float, float, str]:
    cost = model.price(work_of_rows([row]))
    return float(cost.latency_s[0]), float(cost.energy_j[0]), BOUNDS[int(cost.bound[0])]


# by hand -----------------------------------------------------------------------


def test_a_convolution_on_a_jetson_nano_costs_what_the_equations_say() -> None:
    # 1 GMAC, 48 input and 48 output channels, 40 MB of traffic, one launch; MAXN.
    # peak      1 SM x 921.6 MHz x 256 FLOP/cycle = 235.93 GFLOP/s; filled: (48 / (48 + 16))^2 = 0.5625
    # compute   2e9 / (235.9296e9 x 0.9 x 0.5625) = 16.7448 ms
    # memory    40e6 / (2 x 1.6e9 x 8 x 0.5) = 3.125 ms; launch 0.128 ms: bound by compute
    # energy    (1.75 + 1.6) W x 16.7448 ms + 19.5 pJ x 2e9 + 64 pJ x 40e6 = 56.0951 + 39 + 2.56 mJ
    row = {
        "kernel": "convolution",
        "macs": 1e9,
        "flops": 2e9,
        "read": 30e6,
        "written": 10e6,
        "c": 48,
        "k": 48,
    }
    latency, energy, bound = priced(ALL["jetson-nano-roofline", "MAXN"], **row)
    assert latency == pytest.approx(16.7448e-3, rel=1e-5)
    assert energy == pytest.approx(97.6551e-3, rel=1e-5)
    assert bound == "compute"


def test_a_bias_or_norm_runs_at_half_the_peak_because_it_has_no_fused_multiply_add() -> None:
    # 1e9 FLOP at 100e9 / 2 x 0.2 = 10 GFLOP/s: 100 ms; energy 3 W x 0.1 s + 10 pJ x 1e9 = 310 mJ
    assert priced(a_roofline(), kernel="norm", flops=1e9) == pytest.approx((0.1, 0.31, "compute"))


def test_where_launches_overlap_a_small_op_costs_its_launch() -> None:
    # 1 MB at 5 GB/s = 0.2 ms, below the launch of 1 ms; energy 3 W x 1 ms + 100 pJ x 1e6 = 3.1 mJ
    assert priced(a_roofline(), read=1e6) == pytest.approx((1e-3, 3.1e-3, "launch"))


def test_where_launches_do_not_overlap_they_add() -> None:
    # 0.2 ms + 1 ms; 3 W x 1.2 ms + 0.1 mJ; the launch is still the larger part
    assert priced(a_roofline(launch_overlaps=False), read=1e6) == pytest.approx((1.2e-3, 3.7e-3, "launch"))
    # 10 MB: 2 ms + 1 ms
    assert priced(a_roofline(launch_overlaps=False), read=1e7) == pytest.approx((3e-3, 10e-3, "memory"))


def test_a_view_costs_nothing_and_nothing_bounds_it() -> None:
    for model in ALL.values():
        assert priced(model, kernel="view", launches=0) == (0.0, 0.0, "none")


def test_an_op_of_three_kernels_pays_three_launches() -> None:
    assert priced(a_roofline(), launches=3)[0] == pytest.approx(3e-3)


def test_a_dtype_without_a_rate_runs_as_float32_and_half_precision_at_its_own_rate() -> None:
    row = {"kernel": "gemm", "macs": 8e9, "flops": 16e9}
    assert priced(a_roofline(), **row)[0] == pytest.approx(0.2)  # 16e9 / (100e9 x 0.8)
    assert priced(a_roofline(), dtype="bfloat16", **row) == priced(a_roofline(), **row)
    assert priced(a_roofline(), dtype="float16", **row)[0] == pytest.approx(0.1)


def test_a_tiled_engine_pays_for_whole_tiles() -> None:
    # 17 output channels on tiles of 16 take two tiles: 17/32 of the engine works; 3 input channels fill 3/16.
    engine = a_roofline(tile_channels=16.0)
    full = priced(engine, kernel="convolution", macs=1e9, flops=2e9, c=16, k=32)[0]
    part = priced(engine, kernel="convolution", macs=1e9, flops=2e9, c=3, k=17)[0]
    assert part == pytest.approx(full * (16 / 3) * (32 / 17))


def test_recurrent_kernels_count_as_matrix_products_and_all_without_macs_as_vector_work() -> None:
    assert CLASS_OF_KERNEL["rnn"] == "gemm"
    assert {CLASS_OF_KERNEL[name] for name in ("norm", "pool", "copy", "random", "view")} == {"vector"}
    assert set(CLASS_OF_KERNEL) == set(KERNELS)


def test_no_workspace_is_counted_and_the_device_says_so() -> None:
    layout = Layout((4,), (1,), "float32")
    op = Op("aten::relu", "relu", "forward", "", (0,), (0,))
    graph = Graph((op, op), (Tensor(layout, 0),), (Storage(16, "activation", -1, None),), {"batch": 1})
    for model in ALL.values():
        assert model.workspace_bytes(graph).tolist() == [0, 0]
        assert "kernel workspace is not counted" in model.assumptions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"efficiency": {**dict.fromkeys(EFFICIENCIES, 0.5), "gemm": 1.01}},
            "no device is faster than its own peak",
        ),
        ({"bandwidth_efficiency": 1.5}, "no device is faster than its own peak"),
        ({"bandwidth_efficiency": 0.0}, "it must be above 0"),
        ({"launch_s": -1.0}, "it must be at least 0"),
        ({"static_w": float("nan")}, "it must be above 0"),
        ({"peak_flop_per_s": {"float16": 1e9}}, "every device needs them"),
        ({"efficiency": {"gemm": 0.5}}, "it needs"),
        ({"memory_bytes": -5.0}, "it must be above 0"),
    ],
)
def test_an_impossible_roofline_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        a_roofline(**change)


# physics -----------------------------------------------------------------------

size = st.floats(0, 1e12)
channels = st.integers(1, 4096)


@st.composite
def rows(draw: st.DrawFn, points: int = 0) -> dict[str, Any]:
    def many(strategy: st.SearchStrategy[Any]) -> Any:
        return np.array([draw(strategy) for _ in range(points)], dtype=float) if points else draw(strategy)

    macs = many(size)
    return {
        "kernel": draw(st.sampled_from(KERNELS)),
        "dtype": draw(st.sampled_from(DTYPES)),
        "macs": macs,
        "flops": 2 * macs + many(size),
        "read": many(size),
        "written": many(size),
        "launches": draw(st.integers(1, 5)),
        "c": draw(channels),
        "k": draw(channels),
    }


models = st.sampled_from(sorted(ALL)).map(ALL.__getitem__)


@given(models, rows())
def test_no_op_is_faster_than_the_peak_or_the_bandwidth_of_the_device(model: Any, row: dict[str, Any]) -> None:
    latency = priced(model, **row)[0]
    peak = model.card["peaks"].get(row["dtype"], model.card["peaks"]["float32"])["value"]
    assert latency >= row["flops"] / peak * (1 - 1e-9)
    assert latency >= (row["read"] + row["written"]) / model.card["bandwidths"]["peak"]["value"] * (1 - 1e-9)


@given(models, rows())
def test_a_launched_op_takes_time_and_energy_and_never_less_than_the_idle_board(
    model: Any, row: dict[str, Any]
) -> None:
    latency, energy, bound = priced(model, **row)
    assert latency > 0
    assert energy >= model.static_w * latency > 0
    assert bound in ("compute", "memory", "launch")


@given(models, rows(), st.sampled_from(["macs", "flops", "read", "written", "launches"]), st.floats(0, 1e11))
def test_more_work_is_never_cheaper(model: Any, row: dict[str, Any], what: str, more: float) -> None:
    extra = {what: row[what] + more, **({"flops": row["flops"] + 2 * more} if what == "macs" else {})}
    less, most = priced(model, **row), priced(model, **{**row, **extra})
    assert most[0] >= less[0] * (1 - 1e-12)
    assert most[1] >= less[1] * (1 - 1e-12)


@given(models, rows(), st.integers(0, 64))
def test_a_convolution_with_more_channels_is_never_cheaper(model: Any, row: dict[str, Any], more: int) -> None:
    def cost(c: int) -> float:
        macs = 1e6 * c * row["k"]
        return priced(model, **{**row, "kernel": "convolution", "c": c, "macs": macs, "flops": 2 * macs})[0]

    assert cost(row["c"] + more) >= cost(row["c"]) * (1 - 1e-12)


@given(models, st.integers(1, 4).flatmap(lambda n: st.lists(rows(points=n), min_size=1, max_size=5)))
def test_pricing_many_points_at_once_equals_pricing_one_by_one(model: Any, many: list[dict[str, Any]]) -> None:
    together = model.price(work_of_rows(many))
    for j in range(len(many[0]["macs"])):
        alone = [{k: v[j] if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in many]
        cost = model.price(work_of_rows(alone))
        np.testing.assert_allclose(together.latency_s[:, j], cost.latency_s, rtol=1e-14)
        np.testing.assert_allclose(together.energy_j[:, j], cost.energy_j, rtol=1e-14)
        assert together.bound[:, j].tolist() == cost.bound.tolist()


@given(st.sampled_from([file for file in FILES if len(modes(file)) > 1]), rows())
def test_a_power_mode_with_higher_clocks_is_never_slower(file: str, row: dict[str, Any]) -> None:
    name, names = Path(file).stem, modes(file)
    price = {mode: priced(ALL[name, mode], **row)[0] for mode in names}
    for slow in names:
        for fast in names:
            clocks = {m: ALL[name, m].card["clocks"] for m in (slow, fast)}
            if all(clocks[fast][c]["value"] >= clocks[slow][c]["value"] for c in clocks[slow] if c != "host_cores"):
                assert price[fast] <= price[slow] * (1 + 1e-12)


@given(models, rows())
def test_pricing_leaves_the_work_as_it_was_and_gives_the_same_twice(model: Any, row: dict[str, Any]) -> None:
    work = work_of_rows([row])
    before = pickle.dumps(work)
    first, second = model.price(work), model.price(work)
    assert pickle.dumps(work) == before
    assert pickle.dumps(first) == pickle.dumps(second)


def test_a_work_without_rows_costs_nothing() -> None:
    for model in ALL.values():
        assert model.price(work_of_rows([])).latency_s.shape == (0,)


def test_a_device_is_a_frozen_value_that_can_be_sent_to_another_process() -> None:
    for model in ALL.values():
        assert pickle.loads(pickle.dumps(model)) == model
        hash(model)
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.name = "other"
