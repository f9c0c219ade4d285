"""The FPGA model: an op runs on a described engine, and energy follows what of the fabric is used and how busily.

latency = busy + launches * t                          (busy: see `hwmodels.fpga.timing`)
energy  = static * latency
        + dsp   * (clocks of busy MAC units * DSPs of one + vector FLOPs * DSPs of an operator)
        + bram  * block RAMs of the design * clocks while busy
        + logic * LUTs of the design * clocks while busy
        + dram  * bytes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hwmodels.fpga.design import Design
from hwmodels.fpga.explaining import explained
from hwmodels.fpga.resources import Board, Resources, missing, resources_of
from hwmodels.fpga.source import Source
from hwmodels.fpga.timing import by_row, numbers_of, rows_of, seconds
from simulator.cost import Cost
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.work import Ints, Work

LIMITS = ("none", "compute", "stream", "memory", "launch")
"""What may bound an op: arithmetic, the design's DMA streams, the board's memory, setting the engine up."""

FLOWING = ("static", "bram", "logic")
"""What draws power as long as an op takes."""

ULTRA_RAM_IN_BRAM18 = 16
"""An UltraRAM counts as its capacity in block RAMs, 288 Kbit / 18 Kbit."""


@dataclass(frozen=True)
class Fpga:
    """A board with a design on it. Energies: `dsp_j`, `bram_j`, `lut_j` per busy DSP, block RAM, LUT and clock, of the
    chip; `byte_j` per byte of memory traffic. `source` is what the device's file says.

    Raises `TrainwattError` on construction where a number is impossible. A design that does not fit its board can be
    priced; `missing` says what it lacks.
    """

    name: str
    mode: str
    board: Board
    design: Design
    clock_hz: float
    byte_per_s: float
    launch_s: float
    static_w: float
    dsp_j: float
    bram_j: float
    lut_j: float
    byte_j: float
    memory_bytes: float
    assumptions: tuple[str, ...] = field(default=(), repr=False)
    card: Mapping[str, object] = field(default_factory=dict, hash=False, repr=False)
    source: Source | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        above = {"clock": self.clock_hz, "bandwidth": self.byte_per_s, "static power": self.static_w}
        above["usable memory"] = self.memory_bytes
        least = {"launch time": self.launch_s, "energy of a DSP": self.dsp_j, "energy of a block RAM": self.bram_j}
        least |= {"energy of a LUT": self.lut_j, "energy of traffic": self.byte_j}
        for what, value in {**above, **least}.items():
            allowed = "above" if what in above else "at least"
            if not (math.isfinite(value) and value >= 0) or (allowed == "above" and value == 0):
                raise TrainwattError(f"{what} {value:g} of {self.name}; it must be {allowed} 0")

    @property
    def resources(self) -> Resources:
        """What the design takes of the board."""
        return resources_of(self.design, self.board)

    @property
    def missing(self) -> tuple[str, ...]:
        """The resources of which the design takes more than the board has, with both numbers; none if it fits."""
        return missing(self.resources, self.board)

    @property
    def peak_flop_per_s(self) -> float:
        """The peak of the engine or of the vector lanes, whichever is higher, without packing."""
        lanes = self.design["lanes"] * self.design["lane_flops"]
        return max(2.0 * self.design.mac_units, lanes) * self.clock_hz

    def price(self, work: Work) -> Cost:
        """Return what one execution of every row of `work` costs; see the equations of this module."""
        rows = rows_of(work, self.design)
        time = seconds(rows, numbers_of(self.design), clock=self.clock_hz, byte_per_s=self.byte_per_s)
        launch = by_row(work.launches * self.launch_s, work)
        latency = time.busy + launch

        taken = self.resources
        dsp = self.design.operator.dsp.value
        unit_clocks = work.macs / by_row(rows.width.rate, work)
        busy_clocks = time.busy * self.clock_hz
        rails = {
            "static": latency * self.static_w,
            "dsp": (unit_clocks + rows.vector_flops / 2) * (dsp * self.dsp_j),
            "bram": busy_clocks * ((taken.bram18 + ULTRA_RAM_IN_BRAM18 * taken.uram) * self.bram_j),
            "logic": busy_clocks * (taken.lut * self.lut_j),
            "dram": time.bytes * self.byte_j,
        }
        energy = np.zeros_like(latency)
        for rail in rails.values():
            energy += rail

        alone = np.stack([time.compute, time.stream, time.memory, np.broadcast_to(launch, latency.shape)])
        bound = (1 + alone.argmax(axis=0)).astype(np.int8)
        bound[latency == 0.0] = 0
        return Cost(latency, energy, bound, LIMITS, dict(zip(LIMITS[1:], alone, strict=True)), rails, FLOWING)

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        """Return how the price of one row comes about: lines of (quantity, formula with numbers).

        Of many points, the first is explained.
        """
        return explained(self, work, row)

    def workspace_bytes(self, graph: Graph) -> Ints:
        """Return zeros, shape (ops,): the engine works in its on-chip buffers."""
        return np.zeros(len(graph.ops), dtype=np.int64)
