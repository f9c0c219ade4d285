"""GPUs and work of one op, for the tests of the GPU model."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwmodels.device import device, devices, modes
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.model import Gpu
from simulator.work import KERNELS, PARTS, Nest, Work

NAMES = [name for name in devices() if name.startswith("jetson") and not name.endswith("-cpu")]
ALL: dict[tuple[str, str], Any] = {(name, mode): device(name, mode) for name in NAMES for mode in modes(name)}
NESTED = ("convolution", "depthwise", "gemm", "attention")


def a_chip(**changes: Any) -> Chip:
    """2 SMs at 1 GHz of 200 FLOP a cycle, 1 MB of L2 at 100 byte a cycle, 10 GB/s of which half is reached."""
    base: dict[str, Any] = {
        "units": 2,
        "clock_hz": 1e9,
        "flop_per_cycle": {"float32": 200.0, "float16": 400.0},
        "tensor_flop_per_cycle": {},
        "l2_bytes": 1e6,
        "l2_byte_per_cycle": 100.0,
        "dram_byte_per_s": 10e9,
        "dram_share": 0.5,
        "pipeline": 0.5,
        "staging_slots": 0.0,
        "fill_steps": 0.0,
        "kernel_s": 0.0,
        "workspace_bytes": 1e9,
    }
    return Chip(**{**base, **changes})


def a_gpu(chip: Chip | None = None, **changes: Any) -> Gpu:
    base: dict[str, Any] = {
        "name": "round",
        "mode": "only",
        "chip": chip or a_chip(),
        "launch_s": 1e-3,
        "static_w": 2.0,
        "host_w": 1.0,
        "soc_w": 0.5,
        "energy_j_per_flop": {"float32": 10e-12},
        "energy_j_per_byte": 100e-12,
        "memory_bytes": 1e9,
    }
    return Gpu(**{**base, **changes})


def row(kernel: str, part: str = "", dtype: str = "float32", item: int = 4, bias: bool = False, **loops: Any) -> Work:
    """The work of one op with a nest, moving its operands once; or of one without, of given flops and bytes."""
    plain = {name: loops.pop(name, 0.0) for name in ("flops", "read", "written")}
    launches = loops.pop("launches", 1.0)
    nest = Nest(**loops)
    macs = nest.macs if kernel in NESTED else 0.0
    x = nest.n * nest.g * nest.c * nest.p * nest.q * nest.stride_h * nest.stride_w * item
    w = nest.g * nest.k * nest.c * nest.r * nest.s * item
    y = nest.n * nest.g * nest.k * nest.p * nest.q * item
    moved = {"": (x + w, y), "forward": (x + w, y), "input": (y + w, x), "weight": (x + y, w)}[part]
    if kernel not in NESTED:
        moved = (plain["read"], plain["written"])
    flops = 2 * macs + plain["flops"] + (y / item if bias else 0.0)

    def column(value: Any) -> Any:
        return np.array([value], dtype=np.float64)

    return Work(
        kernel=np.array([KERNELS.index(kernel)]),
        dtype=np.array([0]),
        dtypes=(dtype,),
        launches=column(launches),
        macs=column(macs),
        flops=column(flops),
        read_bytes=column(moved[0]),
        written_bytes=column(moved[1]),
        nest={name: column(value) for name, value in nest._asdict().items()},
        row_of_op=np.zeros(1, dtype=np.int64),
        runs=np.ones(1),
        part=np.array([PARTS.index(part)]),
    )


def latency(model: Any, work: Work) -> float:
    return float(model.price(work).latency_s[0])
