"""The CPU model: prices by hand, and the physics that every CPU obeys in every power mode."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.cpu.library import LIBRARIES
from hwmodels.cpu.model import Cpu
from hwmodels.device import device, devices, modes
from simulator.errors import TrainwattError
from simulator.work import KERNELS, PARTS
from tests.hwmodels.cpu_rows import ITEM, convolution, product, work_of_rows

ALL: dict[tuple[str, str], Cpu] = {
    (name, mode): model for name in devices() for mode in modes(name) if isinstance(model := device(name, mode), Cpu)
}
PI4 = ALL["raspberry-pi-4b", "1.8GHz"]


def with_library(model: Cpu, name: str) -> Cpu:
    return dataclasses.replace(model, processor=dataclasses.replace(model.processor, library=LIBRARIES[name]))


def priced(model: Cpu, row: dict[str, Any]) -> tuple[float, float, str]:
    cost = model.price(work_of_rows([row]))
    return float(cost.latency_s[0]), float(cost.energy_j[0]), cost.limits[int(cost.bound[0])]


# by hand -----------------------------------------------------------------------


def test_adding_two_large_tensors_on_a_raspberry_pi_4_runs_at_the_measured_bandwidth() -> None:
    # 80 MB read, 40 MB written: 40 MB copied at 2.326 GB/s = 17.1969 ms, 40 MB more read at 3.943 GB/s = 10.1446 ms,
    # 27.3415 ms on one core; four cores reach 1.53 times that: 17.8703 ms (12.5 ms at the peak of 9.6 GB/s).
    # arithmetic: 10e6 FLOP / (1.8 GHz x 8 / 2 x 0.5) = 2.7778 ms on one core, 0.6944 ms on four; half of it is not
    # hidden. one core 27.3415 + 1.3889 = 28.7304; four 17.8703 + 0.3472 = 18.2175
    # 0.02 ms region + 0.02 x 28.7304 + 0.98 x 18.2175 + 0.05 ms dispatch = 18.4978 ms
    row = {"flops": 10e6, "read": 80e6, "written": 40e6}
    latency, _, bound = priced(PI4, row)
    assert latency == pytest.approx(18.4978e-3, rel=1e-4)
    assert bound == "DRAM"


def test_what_fits_a_cache_is_read_from_there() -> None:
    # 400 kB stay in 1 MiB of L2: 8 byte/cycle x 1.8 GHz = 14.4 GB/s, 27.78 us; 50,000 FLOP 13.89 us, half shown;
    # 1.53 pieces of 32,768 elements would share it, which would cost 20 us: one core does it. 34.72 + 50 us.
    latency, _, bound = priced(PI4, {"flops": 50e3, "read": 200e3, "written": 200e3})
    assert latency == pytest.approx(84.72e-6, rel=1e-3)
    assert bound == "dispatch"


def test_a_part_of_a_register_tile_costs_as_much_as_a_whole_one() -> None:
    # 7 x 7 positions are 49 rows of tiles of 8: 56. 5 of 8 columns are a whole tile.
    core = PI4.processor.core
    for m, n, rows, columns in ((49, 64, 56, 64), (56, 64, 56, 64), (64, 5, 64, 8), (64, 8, 64, 8)):
        asked = PI4.demand(work_of_rows([product(m, n, 256)]))
        # half of 32 KiB over 8 + 8 floats of 4 byte: 256 steps between updates, so one update, 16 cycles
        tiles = rows * columns / 64
        expected = tiles * (2 * 64 * 256 / 8 + core.fill_cycles) / PI4.processor.gemm
        assert asked.cycles[0] == pytest.approx(expected)


def test_a_large_product_streams_from_memory_what_the_tile_in_cache_cannot_reuse() -> None:
    # Half of 1 MiB is 131,072 floats, a tile of 362.04 x 362.04: 2 x 4096^3 / 362.04 x 4 byte = 1.5185 GB,
    # of which 67.1 MB are the result, written.
    asked = PI4.demand(work_of_rows([product(4096, 4096, 4096)]))
    assert asked.read_bytes[-1][0] + asked.written_bytes[-1][0] == pytest.approx(1.5185e9, rel=1e-4)
    assert asked.written_bytes[-1][0] == 4 * 4096**2


def test_a_product_that_fits_the_cache_moves_each_operand_at_most_once_from_memory() -> None:
    row = product(512, 512, 512)
    asked = PI4.demand(work_of_rows([row]))
    assert asked.read_bytes[-1][0] == row["read"] == 2 * 512 * 512 * 4  # 3 MB are more than 1 MiB, a tile is not
    small = PI4.demand(work_of_rows([product(128, 128, 128)]))
    assert small.read_bytes[-1][0] == 0  # 197 kB stay where the op before left them


def test_forward_and_both_gradients_are_the_products_of_their_loops() -> None:
    # 2 images, 3 to 16 channels, 3x3, 14 x 14 positions
    def shape(library: str, part: str, **more: int) -> tuple[float, ...]:
        row = convolution(part, 2, 3, 16, 14, 14, **more)
        made = with_library(PI4, library).demand(work_of_rows([row])).made
        return tuple(float(v[0]) for v in (made.count, made.m, made.n, made.k, made.column_elements))

    assert shape("onednn", "forward") == (2, 196, 16, 27, 0)
    assert shape("onednn", "input") == (2, 196, 3, 144, 0)
    assert shape("onednn", "weight") == (1, 16, 27, 392, 0)
    assert shape("im2col", "forward") == (2, 196, 16, 27, 2 * 27 * 196)
    assert shape("im2col", "input") == (2, 196, 27, 16, 2 * 27 * 196)
    assert shape("im2col", "weight") == (2, 16, 27, 196, 2 * 27 * 196)
    assert shape("im2col", "forward", taps=1) == (2, 196, 16, 3, 0)
    assert shape("onednn", "input", stride=2) == (2, 784, 3, 36, 0)


def test_winograd_needs_a_quarter_of_the_multiplications_and_pays_for_transforms() -> None:
    # 8 images of 56 x 56, 64 to 64 channels: 8 x 14 x 14 tiles, 36 x 1568 x 64 x 64 multiplications for
    # 8 x 3136 x 9 x 64 x 64 = 925 M; transforms 1568 x 64 x (156 + 90) + 72 x 64 x 64 FLOPs
    row = convolution("forward", 8, 64, 64, 56, 56)
    fast, slow = with_library(PI4, "winograd"), PI4
    asked = fast.demand(work_of_rows([row]))
    assert asked.macs[0] == 36 * 1568 * 64 * 64 == slow.demand(work_of_rows([row])).macs[0] / 4
    assert asked.other_flops[0] == 1568 * 64 * 246 + 72 * 64 * 64
    assert priced(fast, row)[0] < priced(slow, row)[0]
    for other in (convolution("weight", 8, 64, 64, 56, 56), convolution("forward", 8, 64, 64, 56, 56, stride=2)):
        assert priced(fast, other) == priced(slow, other)
    few = convolution("forward", 8, 64, 64, 1, 1)  # a tile of 4 x 4 for one output: not worth it
    assert priced(fast, few) == priced(slow, few)


def test_a_view_costs_nothing_and_nothing_bounds_it() -> None:
    for model in ALL.values():
        assert priced(model, {"kernel": "view", "launches": 0}) == (0.0, 0.0, "none")


def test_an_op_of_three_kernels_pays_three_dispatches() -> None:
    assert priced(PI4, {"launches": 3})[0] == pytest.approx(3 * PI4.dispatch_s)


# physics -----------------------------------------------------------------------

size = st.floats(0, 1e11)
channels = st.integers(1, 600)


@st.composite
def rows(draw: st.DrawFn, points: int = 0) -> dict[str, Any]:
    def many(strategy: st.SearchStrategy[Any]) -> Any:
        return np.array([draw(strategy) for _ in range(points)], dtype=float) if points else draw(strategy)

    kernel = draw(st.sampled_from(KERNELS))
    side, taps = draw(st.integers(1, 120)), draw(st.sampled_from([1, 2, 3, 5, 7]))
    stride = draw(st.sampled_from([1, 1, 2]))
    return {
        "kernel": kernel,
        "part": draw(st.sampled_from(PARTS[1:])) if kernel in ("convolution", "depthwise") else "",
        "dtype": draw(st.sampled_from(sorted(ITEM))),
        **{name: draw(channels) for name in ("k", "c")},
        "n": many(st.integers(1, 64)),
        "g": draw(st.sampled_from([1, 1, 8])),
        **dict.fromkeys(("p", "q"), side),
        **dict.fromkeys(("r", "s"), taps),
        **dict.fromkeys(("stride_h", "stride_w"), stride),
        "flops": many(size),
        "read": many(size),
        "written": many(size),
        "launches": draw(st.integers(1, 5)),
    }


models = st.sampled_from(sorted(ALL)).map(ALL.__getitem__)
libraries = st.sampled_from(sorted(LIBRARIES))


@given(models, rows())
def test_no_op_is_faster_than_the_peak_or_the_bandwidth_of_the_device(model: Any, row: dict[str, Any]) -> None:
    latency = priced(model, row)[0]
    work = work_of_rows([row])
    peak = model.card["peaks"].get(row["dtype"], model.card["peaks"]["float32"])["value"]
    assert latency >= work.flops[0] / peak * (1 - 1e-9)
    held = sum(cache.total_bytes for cache in model.processor.caches)
    beyond = max(row["read"] + row["written"] - held, 0.0)
    assert latency >= beyond / model.card["bandwidths"]["peak"]["value"] * (1 - 1e-9)


@given(models, libraries, rows())
def test_winograd_or_not_what_is_computed_is_not_faster_than_the_peak(
    model: Any, library: str, row: dict[str, Any]
) -> None:
    model = with_library(model, library)
    asked = model.demand(work_of_rows([row]))
    peak = model.card["peaks"].get(row["dtype"], model.card["peaks"]["float32"])["value"]
    assert priced(model, row)[0] >= (2 * asked.macs[0] + asked.other_flops[0]) / peak * (1 - 1e-9)


@given(models, libraries, rows())
def test_every_price_is_finite_and_the_board_is_never_below_its_static_power(
    model: Any, library: str, row: dict[str, Any]
) -> None:
    model = with_library(model, library)
    cost = model.price(work_of_rows([row]))
    assert 0 < cost.latency_s[0] < np.inf
    assert model.static_w * cost.latency_s[0] < cost.energy_j[0] < np.inf
    assert cost.limits[cost.bound[0]] != "none"
    assert sum(rail[0] for rail in cost.rails.values()) == pytest.approx(cost.energy_j[0])
    assert all(0 <= seconds[0] <= cost.latency_s[0] * (1 + 1e-9) for seconds in cost.seconds.values())
    assert cost.seconds[cost.limits[cost.bound[0]]][0] == max(s[0] for s in cost.seconds.values())


@given(models, libraries, rows(), st.sampled_from(["n", "k", "c", "p", "flops", "read", "written", "launches"]))
def test_more_work_is_never_cheaper(model: Any, library: str, row: dict[str, Any], what: str) -> None:
    model = with_library(model, library)
    more = {**row, what: 1.5 * row[what] if what in ("flops", "read", "written") else row[what] + 1}
    less, most = priced(model, row), priced(model, more)
    assert most[0] >= less[0] * (1 - 1e-9)
    if library != "winograd":  # which is chosen for its speed
        assert most[1] >= less[1] * (1 - 1e-9)


@given(st.sampled_from(["forward", "input", "weight"]), st.integers(1, 63), channels, channels, st.integers(1, 60))
def test_a_larger_batch_never_costs_less(part: str, n: int, c: int, k: int, side: int) -> None:
    for model in ALL.values():
        batch = np.array([n, n + 1], dtype=float)
        cost = model.price(work_of_rows([convolution(part, batch, c, k, side, side)]))
        assert cost.latency_s[0, 1] >= cost.latency_s[0, 0] * (1 - 1e-9)
        assert cost.energy_j[0, 1] >= cost.energy_j[0, 0] * (1 - 1e-9)


@given(models, rows(), st.sampled_from(["clock", "read", "write", "copy", "L1", "L2", "scaling", "size"]))
def test_a_faster_device_is_never_slower(model: Any, row: dict[str, Any], what: str) -> None:
    cpu, dram = model.processor, model.dram
    if what == "clock":
        fast = dataclasses.replace(model, clock_hz=1.3 * model.clock_hz)
    elif what in ("read", "write", "copy"):
        name = f"{what}_byte_per_s"
        rates = {name: 1.3 * getattr(dram, name), "peak_byte_per_s": 1.3 * dram.peak_byte_per_s}
        if what == "copy":
            rates["copy_byte_per_s"] = min(rates[name], dram.read_byte_per_s, dram.write_byte_per_s)
        fast = dataclasses.replace(model, dram=dataclasses.replace(dram, **rates))
    elif what == "scaling":
        fast = dataclasses.replace(model, dram=dataclasses.replace(dram, scaling=1.2 * dram.scaling))
    else:
        at = ["L1", "L2"].index(what) if what != "size" else len(cpu.caches) - 1
        faster = {"size_bytes": 1.5} if what == "size" else {"byte_per_s": 1.3}
        (name, factor), caches = next(iter(faster.items())), list(cpu.caches)
        caches[at] = dataclasses.replace(caches[at], **{name: factor * getattr(caches[at], name)})
        fast = dataclasses.replace(model, processor=dataclasses.replace(cpu, caches=tuple(caches)))
    assert priced(fast, row)[0] <= priced(model, row)[0] * (1 + 1e-9)


@given(st.sampled_from([name for name, _ in ALL if len(modes(name)) > 1]), rows())
def test_a_power_mode_with_more_cores_and_higher_clocks_is_never_slower(name: str, row: dict[str, Any]) -> None:
    price = {mode: priced(ALL[name, mode], row)[0] for mode in modes(name)}
    order = sorted(modes(name), key=lambda mode: (ALL[name, mode].cores, ALL[name, mode].clock_hz))
    for slow, fast in itertools.pairwise(order):
        assert price[fast] <= price[slow] * (1 + 1e-9)


@given(models, rows())
def test_twice_the_same_op_costs_twice(model: Any, row: dict[str, Any]) -> None:
    cost = model.price(work_of_rows([row, row]))
    assert cost.latency_s.sum() == pytest.approx(2 * priced(model, row)[0])
    assert cost.energy_j.sum() == pytest.approx(2 * priced(model, row)[1])


@given(models, libraries, st.integers(1, 4).flatmap(lambda n: st.lists(rows(points=n), min_size=1, max_size=5)))
def test_pricing_many_points_at_once_equals_pricing_one_by_one(
    model: Any, library: str, many: list[dict[str, Any]]
) -> None:
    model = with_library(model, library)
    together = model.price(work_of_rows(many))
    for j in range(len(many[0]["flops"])):
        alone = [{k: v[j] if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in many]
        cost = model.price(work_of_rows(alone))
        np.testing.assert_allclose(together.latency_s[:, j], cost.latency_s, rtol=1e-12)
        np.testing.assert_allclose(together.energy_j[:, j], cost.energy_j, rtol=1e-12)
        assert together.bound[:, j].tolist() == cost.bound.tolist()


@given(models, libraries, rows())
def test_an_explanation_ends_with_the_latency_energy_and_bound_that_are_priced(
    model: Any, library: str, row: dict[str, Any]
) -> None:
    model = with_library(model, library)
    latency, energy, bound = priced(model, row)
    lines = model.explain(work_of_rows([{"flops": 1.0}, row]), 1)
    assert [label for label, _ in lines[-3:]] == ["latency", "energy", "bound"]
    assert lines[-3][1].endswith(f"({latency!r} s)")
    assert lines[-2][1].endswith(f"({energy!r} J)")
    assert lines[-1][1] == bound


@given(models, rows())
def test_pricing_leaves_the_work_as_it_was_and_gives_the_same_twice(model: Any, row: dict[str, Any]) -> None:
    work = work_of_rows([row])
    before = pickle.dumps(work)
    first, second = model.price(work), model.price(work)
    assert pickle.dumps(work) == before
    assert pickle.dumps(first) == pickle.dumps(second)


def test_a_row_that_is_not_there_and_work_at_several_sizes_cannot_be_explained() -> None:
    with pytest.raises(TrainwattError, match="no row 1 of work; there are 1"):
        PI4.explain(work_of_rows([{}]), 1)
    with pytest.raises(TrainwattError, match="work at 2 batch sizes; explain one"):
        PI4.explain(work_of_rows([{"read": np.array([1.0, 2.0])}]), 0)


def test_a_work_without_rows_costs_nothing() -> None:
    for model in ALL.values():
        assert model.price(work_of_rows([])).latency_s.shape == (0,)


def test_a_degenerate_shape_has_a_price() -> None:
    for model in ALL.values():
        for part in PARTS[1:]:
            row = {**convolution(part, 1, 1, 1, 1, 1), "n": 0.0, "p": 0.0, "read": 0.0, "written": 0.0}
            assert priced(model, row)[0] == pytest.approx(model.dispatch_s, rel=1e-2)


def test_a_table_of_two_hundred_ops_is_priced_in_milliseconds() -> None:
    shapes = [convolution(part, 32, 8 * i, 16 * i, 28, 28) for i in range(1, 21) for part in PARTS[1:]]
    work = work_of_rows(shapes + [{"flops": 1e6, "read": 4e6, "written": 4e6} for _ in range(140)])
    times = []
    for _ in range(20):
        start = time.process_time()
        PI4.price(work)
        times.append(time.process_time() - start)
    assert min(times) < 4e-3  # 0.5 ms on a quiet machine


def test_a_device_is_a_frozen_value_that_can_be_sent_to_another_process() -> None:
    for model in ALL.values():
        assert pickle.loads(pickle.dumps(model)) == model
        hash(model)
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.name = "other"  # type: ignore[misc]
