"""The roofline: an op takes as long as its arithmetic, its traffic or its launch, whichever bounds it.

For one execution of an op of M multiply-accumulates, F FLOPs (2*M of them in MACs), B bytes, L launches:

    compute = 2*M / (P * e * u) + (F - 2*M) / (P/2 * e_vector)
    memory  = B / (b * e_b)
    launch  = L * t
    latency = max(compute, memory, launch)      where launches overlap execution (a GPU's queue)
    latency = max(compute, memory) + launch     where they do not (CPU, FPGA)
    energy  = (W_static + W_active) * latency + j * F + k * B

P: peak rate at the op's precision, FLOP/s, which counts a fused multiply-add as two; arithmetic outside MACs
gets half of it. e, e_vector, e_b: fractions of the peaks that are reached, at most 1. u: the part of the
machine that a convolution of few channels fills. j, k: joules a FLOP and a byte. Every array is (rows,) or
(rows, points). [Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hwmodels.libraries.onednn import OneDnn
from simulator.cost import BOUNDS, Cost
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.units import show
from simulator.work import KERNELS, Floats, Ints, Work

EFFICIENCIES = ("convolution", "depthwise", "gemm", "attention", "vector")
"""Classes of kernels that reach one fraction of the peak each."""

CLASS_OF_KERNEL: Mapping[str, str] = {
    name: {"rnn": "gemm"}.get(name, name if name in EFFICIENCIES else "vector") for name in KERNELS
}
"""The class of every kernel: what has no MACs of its own is vector work."""

_CONVOLUTION = KERNELS.index("convolution")
_COMPUTE, _MEMORY, _LAUNCH = (BOUNDS.index(name) for name in ("compute", "memory", "launch"))


@dataclass(frozen=True)
class Roofline:
    """A device as peaks, reached fractions, and powers, in one power mode.

    `peak_flop_per_s` and `energy_j_per_flop` are by dtype; a dtype without an entry runs as `float32`.
    `efficiency` is by `EFFICIENCIES`, each in (0, 1]. A convolution of c input, k output channels (per group)
    fills u = c/(c+h) * k/(k+h) of the machine, h = `half_channels`, or, where `tile_channels` T is given,
    u = c/(T*ceil(c/T)) * k/(T*ceil(k/T)). `static_w` flows always, `active_w` on top while an op runs.
    `kernels` is the kernel library; without one, kernels are taken to allocate nothing.

    Raises `TrainwattError` on construction where a number is impossible.
    """

    name: str
    mode: str
    launch_overlaps: bool
    peak_flop_per_s: Mapping[str, float] = field(hash=False)
    efficiency: Mapping[str, float] = field(hash=False)
    half_channels: float
    tile_channels: float
    peak_byte_per_s: float
    bandwidth_efficiency: float
    launch_s: float
    static_w: float
    active_w: float
    energy_j_per_flop: Mapping[str, float] = field(hash=False)
    energy_j_per_byte: float
    memory_bytes: float
    assumptions: tuple[str, ...] = ()
    card: Mapping[str, object] = field(default_factory=dict, hash=False)
    kernels: OneDnn | None = None

    def __post_init__(self) -> None:
        for table in (self.peak_flop_per_s, self.energy_j_per_flop):
            if "float32" not in table:
                raise TrainwattError(f"{self.name} has no float32 rate and energy; every device needs them")
        if set(self.efficiency) != set(EFFICIENCIES):
            given, needed = ", ".join(sorted(self.efficiency)), ", ".join(EFFICIENCIES)
            raise TrainwattError(f"{self.name} has efficiencies {given}; it needs {needed}")
        above_zero = {
            **{f"peak of {dtype}": peak for dtype, peak in self.peak_flop_per_s.items()},
            **{f"efficiency of {name}": share for name, share in self.efficiency.items()},
            "peak bandwidth": self.peak_byte_per_s,
            "efficiency of bandwidth": self.bandwidth_efficiency,
            "static power": self.static_w,
            "usable memory": self.memory_bytes,
        }
        not_below_zero = {
            **{f"energy of {dtype}": energy for dtype, energy in self.energy_j_per_flop.items()},
            "energy of traffic": self.energy_j_per_byte,
            "launch time": self.launch_s,
            "active power": self.active_w,
            "half_channels": self.half_channels,
            "tile_channels": self.tile_channels,
        }
        for what, value in {**above_zero, **not_below_zero}.items():
            allowed = "above" if what in above_zero else "at least"
            if not (math.isfinite(value) and value >= 0) or (allowed == "above" and value == 0):
                raise TrainwattError(f"{what} {value:g} of {self.name}; it must be {allowed} 0")
            if what.startswith("efficiency") and value > 1:
                raise TrainwattError(f"{what} {value:g} of {self.name}; no device is faster than its own peak")

    @cached_property
    def _kernel_efficiency(self) -> Floats:
        return np.array([self.efficiency[CLASS_OF_KERNEL[name]] for name in KERNELS])

    def price(self, work: Work) -> Cost:
        """Return what one execution of every row of `work` costs; see the equations of this module."""

        def by_row(column: Floats) -> Floats:
            return column if work.macs.ndim == 1 else column[:, None]

        peaks = [self.peak_flop_per_s.get(d, self.peak_flop_per_s["float32"]) for d in work.dtypes]
        energies = [self.energy_j_per_flop.get(d, self.energy_j_per_flop["float32"]) for d in work.dtypes]
        peak = np.array(peaks, dtype=np.float64)[work.dtype]
        energy_per_flop = np.array(energies, dtype=np.float64)[work.dtype]

        compute = work.macs * by_row(2.0 / (peak * self._kernel_efficiency[work.kernel]))
        convolutions = np.flatnonzero(work.kernel == _CONVOLUTION)
        if convolutions.size and (self.half_channels or self.tile_channels):
            inputs, outputs = (work.nest[name][convolutions] for name in ("c", "k"))
            compute[convolutions] /= self._filled(inputs) * self._filled(outputs)
        flops = np.maximum(work.flops, 2.0 * work.macs)
        compute += (flops - 2.0 * work.macs) * by_row(2.0 / (peak * self.efficiency["vector"]))

        traffic = work.traffic_bytes
        memory = traffic * (1.0 / (self.peak_byte_per_s * self.bandwidth_efficiency))
        launch = by_row(work.launches * self.launch_s)
        busy = np.maximum(compute, memory)
        latency = np.maximum(busy, launch) if self.launch_overlaps else busy + launch
        energy = latency * (self.static_w + self.active_w)
        energy += flops * by_row(energy_per_flop) + traffic * self.energy_j_per_byte

        bound = np.where(compute >= memory, np.int8(_COMPUTE), np.int8(_MEMORY))
        bound[launch > busy] = _LAUNCH
        bound[latency == 0.0] = 0
        return Cost(latency, energy, bound)

    def _filled(self, channels: Floats) -> Floats:
        """Return the part of one dimension of the machine that so many channels fill, in (0, 1]."""
        channels = np.maximum(channels, 1.0)
        if self.tile_channels:
            return channels / (self.tile_channels * np.ceil(channels / self.tile_channels))
        return channels / (channels + self.half_channels)

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        """Return how the price of row `row` of `work`, at one point, comes about: (label, text) in order.

        Raises `TrainwattError` for a row that does not exist.
        """
        if not 0 <= row < len(work.kernel):
            raise TrainwattError(f"no row {row} of work; there are {len(work.kernel)}")
        cost = self.price(work)
        kernel, dtype = KERNELS[work.kernel[row]], work.dtypes[work.dtype[row]]
        peak = self.peak_flop_per_s.get(dtype, self.peak_flop_per_s["float32"])
        share = float(self._kernel_efficiency[work.kernel[row]])
        reached = self.peak_byte_per_s * self.bandwidth_efficiency
        flops = max(float(work.flops[row]), 2 * float(work.macs[row]))
        traffic = float(work.traffic_bytes[row])
        launch = float(work.launches[row]) * self.launch_s
        latency, energy = float(cost.latency_s[row]), float(cost.energy_j[row])
        return (
            ("op", f"{kernel} in {dtype}"),
            ("work", f"{float(work.macs[row]):.4g} MACs, {flops:.4g} FLOPs, {show(traffic, 'byte')}"),
            ("compute", f"peak {show(peak, 'FLOP/s')}, of which {kernel} reaches {share:.3g}, less unfilled channels"),
            ("memory", f"{show(traffic, 'byte')} / {show(reached, 'byte/s')} = {show(traffic / reached, 's')}"),
            ("launch", f"{float(work.launches[row]):g} x {show(self.launch_s, 's')} = {show(launch, 's')}"),
            ("latency", f"{show(latency, 's')} ({latency!r} s)"),
            ("energy", f"{show(energy, 'J')} ({energy!r} J)"),
            ("bound", cost.limits[cost.bound[row]]),
        )

    def workspace_bytes(self, graph: Graph) -> Ints:
        """Return what the kernels of each op allocate beside the graph's storages, in bytes, shape (ops,)."""
        if self.kernels is None:
            return np.zeros(len(graph.ops), dtype=np.int64)
        return self.kernels.workspace_bytes(graph)


def assumptions(processor: str, several_modes: bool, kernel_library: str = "none") -> tuple[str, ...]:
    """Return what the roofline itself assumes of any device of that kind, in one line each."""
    lines: list[str | bool] = [
        "kernel workspace is not counted"
        if kernel_library == "none"
        else "kernel workspace is that of PyTorch 2.13 with oneDNN 3.12, one thread a core",
        "an op moves its compulsory traffic; caches keep nothing from op to op",
        "a view costs nothing of its own; its share of the framework's work is in the launch time",
        "arithmetic outside multiply-accumulates runs at half the peak rate",
        several_modes and "idle power and energy per FLOP and byte are the same in all power modes",
        several_modes and processor == "gpu" and "launch time and active power follow the clock of the host's cores",
        several_modes
        and processor == "cpu"
        and "launch time follows the clock, active power the clock times the cores",
        several_modes and processor == "fpga" and "active power follows the clock",
        processor == "gpu" and "tensor cores are not used; a launch overlaps the execution of earlier ops",
        processor == "fpga" and "the engine runs every op of the step; transfers and computing overlap within an op",
    ]
    return tuple(line for line in lines if isinstance(line, str))
