"""The GPU model: kernels by hand, and what cannot be made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hwmodels.device import device
from hwmodels.gpu.model import LIMITS
from hwmodels.gpu.pricing import seconds
from simulator.errors import TrainwattError
from simulator.work import PARTS
from tests.hwmodels.gpus import a_chip, a_gpu, latency, row

# by hand -----------------------------------------------------------------------


def test_a_matrix_product_of_whole_tiles_takes_its_tiles_in_waves() -> None:
    # 512 x 64 by 64 x 128: 4 tiles of 128x128, 2 on each SM, of 2*128*128*64 FLOP at 200 x 0.5 FLOP a cycle:
    # 2 x 20971.52 cycles = 41.943 us. Smaller tiles come out the same without staging or filling. DRAM: 512*64 + 64*128
    # + 512*128 elements = 425984 byte at 5 GB/s = 85.2 us bounds it.
    found = seconds(a_chip(), row("gemm", p=512, c=64, k=128))
    assert found.compute[0] == pytest.approx(41.94304e-6)
    assert found.dram[0] == pytest.approx((512 * 64 + 64 * 128 + 512 * 128) * 4 / 5e9)


def test_part_of_a_tile_takes_as_long_as_a_whole_one() -> None:
    # 97 columns take four tiles of 32, or what is wider
    chip = a_chip(dram_byte_per_s=1e15, l2_byte_per_cycle=1e9)
    assert latency(a_gpu(chip), row("gemm", p=4096, c=64, k=97)) == latency(
        a_gpu(chip), row("gemm", p=4096, c=64, k=128)
    )


def test_a_layer_of_few_channels_goes_by_narrow_tiles_forward_but_not_in_the_gradient_of_its_weights() -> None:
    # 32 columns fill a tile of 32; the 32 x 32 results of the weight gradient take a tile of 64 x 64
    loops: dict[str, Any] = {"n": 64, "k": 32, "c": 32, "p": 64, "q": 64}
    gpu = a_gpu(a_chip(dram_byte_per_s=1e15, l2_byte_per_cycle=1e9))
    of_part = {part: dict(gpu.explain(row("convolution", part, **loops), 0))["tiles"] for part in PARTS[1:]}
    assert " 128x32 tiles" in of_part["forward"]
    assert " 128x32 tiles" in of_part["input"]
    assert " 64x64 tiles" in of_part["weight"]


def test_a_long_sum_of_few_results_is_split() -> None:
    # a weight gradient of 64 x 64 results over a million positions: one tile would leave an SM idle
    work = row("convolution", "weight", n=64, k=64, c=64, p=128, q=128)
    assert dict(a_gpu().explain(work, 0))["tiles"].endswith("threads each")
    assert "sum split in" in dict(a_gpu().explain(work, 0))["tiles"]


def test_a_3x3_convolution_of_stride_1_goes_by_winograd_and_one_of_stride_2_does_not() -> None:
    loops: dict[str, Any] = {"n": 8, "k": 256, "c": 256, "p": 32, "q": 32, "r": 3, "s": 3}
    fast = dict(a_gpu().explain(row("convolution", "forward", **loops), 0))["algorithm"]
    slow = dict(a_gpu().explain(row("convolution", "forward", stride_h=2, stride_w=2, **loops), 0))["algorithm"]
    assert fast.startswith("Winograd")
    assert slow == "implicit GEMM: 1 products of (8192 x 2304) by (2304 x 256)"


def test_the_gradient_of_the_input_of_a_strided_1x1_convolution_touches_a_quarter_of_it() -> None:
    work = row("convolution", "input", n=8, k=64, c=32, p=16, q=16, stride_h=2, stride_w=2)
    assert "(2048 x 64) by (64 x 32)" in dict(a_gpu().explain(work, 0))["algorithm"]


def test_a_working_set_within_the_l2_cache_does_not_go_to_dram_and_one_of_twice_its_size_does() -> None:
    small = seconds(a_chip(), row("elementwise", read=5e5, written=5e5))
    large = seconds(a_chip(), row("elementwise", read=1e6, written=1e6))
    assert small.dram[0] == 0.0
    assert small.l2[0] == pytest.approx(1e6 / 200e9)
    assert large.dram[0] == pytest.approx(2e6 / 5e9)


def test_a_depthwise_convolution_costs_instructions_not_multiplications() -> None:
    # 3x3 over 8x16x32x32 outputs: (9 x 12 + 90) slots each on 2 SMs of 100 cores; weight gradient 9 x 62 slots
    loops: dict[str, Any] = {"n": 8, "g": 16, "p": 32, "q": 32, "r": 3, "s": 3}
    outputs = 8 * 16 * 32 * 32
    assert seconds(a_chip(), row("depthwise", "forward", **loops)).compute[0] == pytest.approx(outputs * 198 / 200e9)
    assert seconds(a_chip(), row("depthwise", "weight", **loops)).compute[0] == pytest.approx(outputs * 558 / 200e9)


def test_a_bias_is_added_in_a_kernel_of_its_own() -> None:
    loops: dict[str, Any] = {"n": 8, "k": 256, "c": 256, "p": 32, "q": 32}
    plain, biased = (a_gpu().price(row("convolution", "forward", bias=b, **loops)) for b in (False, True))
    written = 8 * 256 * 32 * 32 * 4
    assert biased.latency_s[0] - plain.latency_s[0] == pytest.approx(2 * written / 5e9)
    assert plain.dispatch_s is not None
    assert biased.dispatch_s is not None
    assert (plain.dispatch_s[0], biased.dispatch_s[0]) == (1e-3, 2e-3)


def test_energy_is_power_times_time_and_the_work_by_rail() -> None:
    # 1e9 FLOP at half of 400 GFLOP/s: 5 ms; (2 + 1 + 0.5) W x 5 ms + 10 pJ x 1e9 = 17.5 + 10 mJ
    cost = a_gpu().price(row("elementwise", flops=1e9))
    assert cost.latency_s[0] == pytest.approx(5e-3)
    assert cost.energy_j[0] == pytest.approx(27.5e-3)
    assert {name: round(float(joules[0]), 6) for name, joules in cost.rails.items()} == {
        "GPU": 0.01,
        "DDR": 0.0,
        "CPU": 0.005,
        "SOC": 0.0025,
        "idle": 0.01,
    }


def test_tensor_cores_take_half_precision_and_float32_convolutions_but_not_float32_products() -> None:
    orin: Any = device("jetson-agx-orin")
    loops: dict[str, Any] = {"n": 1, "k": 1024, "c": 1024, "p": 4096}
    without = dataclasses.replace(orin, chip=dataclasses.replace(orin.chip, tensor_flop_per_cycle={}))
    for kernel, dtype, faster in (
        ("convolution", "float32", True),
        ("gemm", "float32", False),
        ("gemm", "float16", True),
    ):
        work = row(kernel, "forward" if kernel == "convolution" else "", dtype, **loops)
        assert (latency(orin, work) < latency(without, work)) == faster, (kernel, dtype)


def test_what_bounds_an_op_is_named() -> None:
    gpu = a_gpu(a_chip(kernel_s=1e-6))
    bounds = [
        row("elementwise", flops=1e9),
        row("elementwise", read=5e5, written=4e5),
        row("elementwise", read=1e9),
        row("elementwise", flops=1.0),
        row("view", launches=0),
    ]
    assert [LIMITS[int(gpu.price(work).bound[0])] for work in bounds] == ["compute", "L2", "DRAM", "launch", "none"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"static_w": 0.0}, "static power 0 of round; it must be above 0"),
        ({"launch_s": -1.0}, "launch time -1 of round; it must be at least 0"),
        ({"memory_bytes": float("nan")}, "it must be above 0"),
        ({"energy_j_per_flop": {}}, "it must|every device needs it"),
    ],
)
def test_an_impossible_gpu_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainwattError, match=message):
        a_gpu(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"dram_share": 1.1},
        {"pipeline": 0.0},
        {"units": 0},
        {"flop_per_cycle": {}},
    ],
)
def test_an_impossible_chip_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(TrainwattError, match=r"it must|at most 1|every GPU"):
        a_chip(**change)


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainwattError, match="row 1; the work has rows 0 to 0"):
        a_gpu().explain(row("elementwise"), 1)
