"""A DPUCZDX8G B4096 core on a ZCU102, which executes networks in int8 layer by layer.

    dense convolution, product   n g ceil(c / 16) ceil(k / 16) p ceil(q / 8) r s             clocks
    depthwise convolution        n ceil(g / 16) p ceil(q / 4) r s                            clocks
    mean of a map                elements / 16                                               clocks
    everything else              elements read and written / 64                              clocks
    weights, and all operands of the last two where a map is larger than a bank: bytes / bandwidth, before or after

PG338 is AMD's "DPUCZDX8G for Zynq UltraScale+ MPSoCs Product Guide", UG1354 its "Vitis AI Library User Guide". A DPU
only infers, which is why this is no device of the product. Nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from simulator.cost import Cost
from simulator.graph import Graph
from simulator.work import KERNELS, Floats, Ints, Work

CHANNELS, PIXELS = 16.0, 8.0
"""Input and output channels, and pixels of a row, each clock (PG338 3.4)."""
ALU_PIXELS = 4.0
"""Pixels of 16 channels each clock in depthwise convolutions and element by element (PG338 4.1, recommended)."""
CLOCK_HZ = 281e6
"""Of the ZCU102's image (UG1354 2.5); the measurements do not say theirs."""
BYTE_PER_S = 2 * 16 * CLOCK_HZ
"""Two data ports of 128 bits (PG338 4.1)."""
BANK_BYTES = PIXELS * CHANNELS * 2048
"""A map that is read again, as by squeeze-excite, stays in a bank of this size: 8 pixels of 16 channels, 2,048 deep;
assumed, and the same that the published times of large maps say."""

_DENSE, _DEPTHWISE, _GEMM, _VIEW, _REDUCTION = (
    KERNELS.index(name) for name in ("convolution", "depthwise", "gemm", "view", "reduction")
)


@dataclass(frozen=True)
class Dpu:
    """The core as a device; power is not known, so energies are zero."""

    name: str = "zcu102-dpu"
    static_w: float = 1.0
    memory_bytes: float = 4e9
    assumptions: tuple[str, ...] = ("clock, banks and the share of both ports are assumed",)
    card: Mapping[str, object] = field(default_factory=dict, hash=False)

    def price(self, work: Work) -> Cost:
        """Return the time of every row, in the shape of its columns; bytes of float32 count as int8."""
        nest = {name: np.maximum(column, 1.0) for name, column in work.nest.items()}
        n, g, k, c, p, q, r, s = (nest[name] for name in "ngkcpqrs")

        def are(*kernels: int) -> Floats:
            rows = np.isin(work.kernel, kernels).astype(np.float64)
            return rows if work.macs.ndim == 1 else rows[:, None]

        taps = r * s
        dense = n * g * np.ceil(c / CHANNELS) * np.ceil(k / CHANNELS) * p * np.ceil(q / PIXELS) * taps
        product = n * np.ceil(c / CHANNELS) * np.ceil(k / CHANNELS) * np.ceil(p / PIXELS)
        depthwise = n * np.ceil(g / CHANNELS) * p * np.ceil(q / ALU_PIXELS) * taps
        clocks = dense * are(_DENSE) + depthwise * are(_DEPTHWISE) + product * are(_GEMM)
        multiplies = are(_DENSE, _DEPTHWISE, _GEMM)
        weights = g * k * c * taps * multiplies

        moved = (work.read_bytes + work.written_bytes) / 4.0 * (1.0 - multiplies) * (1.0 - are(_VIEW))
        map_bytes = np.maximum(work.read_bytes, work.written_bytes) / 4.0
        away = map_bytes > BANK_BYTES
        rate = CHANNELS * np.where(are(_REDUCTION) > 0, 1.0, ALU_PIXELS)
        compute = (clocks + moved / rate) / CLOCK_HZ
        memory = (weights + np.where(away, moved, 0.0)) / BYTE_PER_S
        latency = compute + memory
        bound = np.where(latency == 0.0, 0, np.where(compute >= memory, 1, 2)).astype(np.int8)
        return Cost(latency, np.zeros_like(latency), bound, seconds={"compute": compute, "memory": memory})

    def workspace_bytes(self, graph: Graph) -> Ints:
        return np.zeros(len(graph.ops), dtype=np.int64)

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        return (("latency", f"{1e3 * float(self.price(work).latency_s[row]):.6g} ms"),)
