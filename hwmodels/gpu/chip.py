"""What a GPU's chip offers in one power mode: the rates that bound its kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from simulator.errors import TrainwattError


@dataclass(frozen=True)
class Chip:
    """Rates of a chip of `units` active SMs at `clock_hz`.

    `flop_per_cycle` is one SM's peak by dtype (a multiply-add is 2), `tensor_flop_per_cycle` that of its tensor cores,
    for the dtypes they take; there `tf32` stands for float32 convolutions. `l2_bytes`: size of the L2 cache;
    `l2_byte_per_cycle`: what one SM moves to or from it. `dram_byte_per_s` is the peak, of which `dram_share` is
    reached. Constants of kernels: `pipeline`, the part of the issue slots that a main loop without any staging fills;
    `staging_slots`, multiply-adds that moving one operand element of a tile to the registers displaces; `fill_steps`,
    steps of the summed loop that starting and storing a tile takes; `kernel_s`, starting and draining a kernel;
    `workspace_bytes`, the most that a kernel may take beside its operands.

    Raises `TrainwattError` on construction where a number is impossible.
    """

    units: int
    clock_hz: float
    flop_per_cycle: Mapping[str, float] = field(hash=False)
    tensor_flop_per_cycle: Mapping[str, float] = field(hash=False)
    l2_bytes: float
    l2_byte_per_cycle: float
    dram_byte_per_s: float
    dram_share: float
    pipeline: float
    staging_slots: float
    fill_steps: float
    kernel_s: float
    workspace_bytes: float

    def __post_init__(self) -> None:
        if "float32" not in self.flop_per_cycle:
            raise TrainwattError("no float32 rate of the chip; every GPU has one")
        above = {"units": self.units, "clock": self.clock_hz, "L2": self.l2_bytes}
        above |= {"L2 rate": self.l2_byte_per_cycle, "bandwidth": self.dram_byte_per_s}
        above |= {"share of bandwidth": self.dram_share, "pipeline": self.pipeline, **self.flop_per_cycle}
        above |= {f"tensor {dtype}": rate for dtype, rate in self.tensor_flop_per_cycle.items()}
        least = {"staging_slots": self.staging_slots, "fill_steps": self.fill_steps, "kernel time": self.kernel_s}
        least |= {"workspace": self.workspace_bytes}
        for what, value in {**above, **least}.items():
            if not math.isfinite(value) or value < 0 or (what in above and value == 0):
                raise TrainwattError(f"{what} {value:g}; it must be {'above' if what in above else 'at least'} 0")
        for what in ("share of bandwidth", "pipeline"):
            if (value := above[what]) > 1:
                raise TrainwattError(f"{what} {value:g}; no device is faster than its own peak, it is at most 1")

    @cached_property
    def cycles_per_s(self) -> float:
        """Clock cycles of all active SMs together, per second."""
        return self.units * self.clock_hz

    @cached_property
    def l2_byte_per_s(self) -> float:
        """What all active SMs together move to or from the L2 cache."""
        return self.cycles_per_s * self.l2_byte_per_cycle

    @cached_property
    def dram_reached(self) -> float:
        """Bytes per second that kernels get from DRAM."""
        return self.dram_byte_per_s * self.dram_share

    def vector_rate(self, dtype: str) -> float:
        """Return FLOP per cycle of one SM's cores; a dtype without an entry runs as float32."""
        return self.flop_per_cycle.get(dtype, self.flop_per_cycle["float32"])

    def matrix_rate(self, dtype: str, convolution: bool) -> float:
        """Return FLOP per cycle of one SM in matrix products, by tensor cores where they take the dtype."""
        name = "tf32" if convolution and dtype == "float32" else dtype
        return max(self.vector_rate(dtype), self.tensor_flop_per_cycle.get(name, 0.0))
