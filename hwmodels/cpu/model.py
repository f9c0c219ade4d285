"""A CPU: an op takes what its arithmetic and its bytes at every level of memory take, on one core or on all.

    compute = cycles / clock                               cycles of the algorithm, see `hwmodels.cpu.core`
    level i = bytes at level i / rate of level i           see `hwmodels.cpu.memory`
    alone   = together(compute, L1, L2, .., DRAM)          the longest, and what of the others is not hidden by it
    shared  = the same with c cores: compute / c, rate of level i times 1 + (s_i - 1) (c - 1) / (cores - 1)
    busy    = min(alone, region * launches + a * alone + (1 - a) * shared)
    latency = launches * dispatch + handled * step dispatch + busy
    energy  = static * latency + active / cores * (core-seconds) + sum of j * FLOPs + sum over levels of k_i * bytes

c = min(cores, pieces that the op falls into); s_i: rate of level i with all cores over that of one; a: the part of an
op that one core does alone (Amdahl 1967); handled: how often the framework handles the op in a step (`InStep`);
region: starting and joining threads. Cores that wait inside a parallel region spin, so they count as active.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from hwmodels.cpu.demand import Demand, Processor, demand
from hwmodels.cpu.memory import Dram
from hwmodels.libraries.onednn import OneDnn
from simulator.cost import Cost
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.reuse import placed
from simulator.work import Floats, Ints, Work


@dataclass(frozen=True)
class InStep:
    """What an op meets in a training step and not alone: `dispatch_s` of the framework's own work beside the launch
    (modules, autograd, the optimizer's loop), and operands that others have driven out of the caches, of which the step
    keeps the part `cache` for itself."""

    dispatch_s: float
    cache: float


@dataclass(frozen=True)
class Cpu:
    """A CPU in one power mode. `flop_per_cycle` of a core and `energy_j_per_flop` are by dtype; a dtype without an
    entry is as `float32`. `active_w` is what all busy cores add to `static_w`, which flows always.

    Raises `TrainwattError` on construction where a number is impossible.
    """

    name: str
    mode: str
    cores: int
    clock_hz: float
    processor: Processor = field(hash=False)
    dram: Dram
    serial: float
    region_s: float
    dispatch_s: float
    static_w: float
    active_w: float
    energy_j_per_flop: Mapping[str, float] = field(hash=False)
    memory_bytes: float
    assumptions: tuple[str, ...] = ()
    card: Mapping[str, object] = field(default_factory=dict, hash=False)
    kernels: OneDnn | None = None
    step: InStep | None = None

    def __post_init__(self) -> None:
        for table in (self.processor.flop_per_cycle, self.energy_j_per_flop):
            if "float32" not in table:
                raise TrainwattError(f"{self.name} has no float32 rate and energy; every device needs them")
        rates = {f.name: getattr(self.dram, f.name) for f in fields(self.dram)}
        fastest = self.dram.peak_byte_per_s
        for name in ("read", "write", "copy"):
            rate = rates[f"{name}_byte_per_s"] * (2 if name == "copy" else 1)
            if not 0 < rate <= fastest * (1 + 1e-9):
                raise TrainwattError(f"bandwidth.{name} of {self.name}; what it moves must be within the memory's peak")
        if self.dram.copy_byte_per_s > min(self.dram.read_byte_per_s, self.dram.write_byte_per_s):
            raise TrainwattError(f"bandwidth.copy of {self.name}; copying reads and writes, it is at most either")
        sizes = [cache.size_bytes for cache in self.processor.caches]
        if sizes != sorted(sizes):
            raise TrainwattError(f"caches of {self.name} shrink from level to level; give L1 first")
        for what, value in {
            "clock": self.clock_hz,
            "static power": self.static_w,
            "usable memory": self.memory_bytes,
            "number of cores": self.cores,
        }.items():
            if not (math.isfinite(value) and value > 0):
                raise TrainwattError(f"{what} {value:g} of {self.name}; it must be above 0")

    @property
    def levels(self) -> tuple[str, ...]:
        """The caches and the memory, nearest first."""
        return (*(cache.name for cache in self.processor.caches), "DRAM")

    @cached_property
    def limits(self) -> tuple[str, ...]:
        """What may bound an op."""
        return ("none", "compute", *self.levels, "dispatch")

    def demand(self, work: Work) -> Demand:
        """Return what the rows of `work` ask of this CPU."""
        return demand(work, self.processor)

    def seconds(self, asked: Demand, threads: Floats | float) -> list[Floats]:
        """Return how long each limit alone takes on so many cores: arithmetic, then the levels."""
        times = [asked.cycles / (self.clock_hz * threads)]
        for i, cache in enumerate(self.processor.caches):
            rate = cache.byte_per_s * self.share(cache.scaling, threads)
            times.append((asked.read_bytes[i] + asked.written_bytes[i]) / rate)
        times.append(
            self.dram.seconds(asked.read_bytes[-1], asked.written_bytes[-1], self.share(self.dram.scaling, threads))
        )
        return times

    def share(self, scaling: float, threads: Floats | float) -> Floats | float:
        """Return the rate of a level with so many cores over that of one."""
        return 1.0 + (scaling - 1.0) * (threads - 1.0) / max(self.cores - 1, 1)

    def in_step(self, work: Work, graph: Graph) -> Work:
        """Return the work of a step, of all ops of `graph`, with what its ops meet there."""
        if self.step is None:
            return work
        caches = self.processor.caches
        core = max((cache.size_bytes for cache in caches if not cache.shared), default=0.0)
        chip = max(cache.total_bytes for cache in caches)
        return placed(work, graph, self.step.cache * core, self.step.cache * chip)

    def price(self, work: Work) -> Cost:
        """Return what one execution of every row of `work` costs; see the equations of this module."""
        asked = self.demand(work)
        launches = work.launches if work.macs.ndim == 1 else work.launches[:, None]
        threads = np.clip(asked.pieces, 1.0, float(self.cores))
        alone, shared = self.seconds(asked, 1.0), self.seconds(asked, threads)
        together = self.processor.core.together
        one = together(alone)
        many = self.region_s * launches + self.serial * one + (1.0 - self.serial) * together(shared)
        parallel = many < one
        busy = np.where(parallel, many, one)
        framework = work.framework if work.macs.ndim == 1 else work.framework[:, None]
        around = self.step.dispatch_s * framework if self.step else 0.0
        dispatch = np.broadcast_to(self.dispatch_s * launches + around, busy.shape)
        latency = busy + dispatch

        times = [
            np.where(parallel, self.serial * a + (1.0 - self.serial) * s, a) for a, s in zip(alone, shared, strict=True)
        ]
        waiting = dispatch + np.where(parallel, self.region_s * launches, 0.0)
        seconds = dict(zip(self.limits[1:], [*times, waiting], strict=True))
        bound = np.argmax(np.stack(list(seconds.values())), axis=0).astype(np.int8) + np.int8(1)
        bound[latency == 0.0] = 0

        rails = self._energy(work, asked, latency, dispatch + busy * np.where(parallel, threads, 1.0))
        energy = sum(rails.values(), np.zeros_like(latency))
        return Cost(latency, energy, bound, self.limits, seconds, rails, ("static", "cores"))

    def _energy(self, work: Work, asked: Demand, latency: Floats, core_s: Floats) -> dict[str, Floats]:
        per_flop = np.array([self.energy_j_per_flop.get(d, self.energy_j_per_flop["float32"]) for d in work.dtypes])
        flop = per_flop[work.dtype] if work.macs.ndim == 1 else per_flop[work.dtype][:, None]
        rails = {
            "static": self.static_w * latency,
            "cores": self.active_w / self.cores * core_s,
            "arithmetic": flop * (2.0 * asked.macs + asked.other_flops),
        }
        energies = [cache.energy_j_per_byte for cache in self.processor.caches] + [self.dram.energy_j_per_byte]
        for name, each, read, written in zip(self.levels, energies, asked.read_bytes, asked.written_bytes, strict=True):
            rails[name] = each * (read + written)
        return rails

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        """Return how the price of one row of `work` comes about, step by step: (label, text) in order."""
        from hwmodels.cpu.explain import explain

        return explain(self, work, row)

    def workspace_bytes(self, graph: Graph) -> Ints:
        """Return what the kernels of each op allocate beside the graph's storages, in bytes, shape (ops,)."""
        if self.kernels is None:
            return np.zeros(len(graph.ops), dtype=np.int64)
        return self.kernels.workspace_bytes(graph)
