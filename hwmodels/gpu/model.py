"""The embedded GPU: what one execution of an op takes on the chip, on the host that dispatches it, and in energy.

    latency = busy + bias + start                     on the chip, see `pricing`
    host    = L * t_launch                            in step with the device, see `simulator.schedule.dispatched`
    energy  = (static + host + soc) * latency + j(dtype) * F + k * DRAM bytes

While the device waits for the host, static + host flow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hwmodels.gpu import workspace
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.explaining import explanation
from hwmodels.gpu.pricing import seconds
from simulator.allocators.replaying import Reserved, replay_steps
from simulator.cost import Cost
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.work import Ints, Work

LIMITS = ("none", "compute", "L2", "DRAM", "launch", "dispatch")
"""What may bound an op: arithmetic and its instructions, the L2 cache, DRAM, starting its kernels."""


@dataclass(frozen=True)
class Gpu:
    """An embedded GPU with its host, in one power mode.

    `launch_s` is the host's time for one launched op. Powers in W: `static_w` flows always, `host_w` while a step
    runs, `soc_w` while the device computes. `energy_j_per_flop` is by dtype at this mode's clock; one without an entry
    costs what float32 costs. `memory_bytes` is the board's memory less what system and CUDA context hold.

    Raises `TrainwattError` on construction where a number is impossible.
    """

    name: str
    mode: str
    chip: Chip
    launch_s: float
    static_w: float
    host_w: float
    soc_w: float
    energy_j_per_flop: Mapping[str, float] = field(hash=False)
    energy_j_per_byte: float
    memory_bytes: float
    assumptions: tuple[str, ...] = ()
    card: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if "float32" not in self.energy_j_per_flop:
            raise TrainwattError(f"{self.name} has no float32 energy; every device needs it")
        above = {"static power": self.static_w, "usable memory": self.memory_bytes}
        least = {"launch time": self.launch_s, "host power": self.host_w, "SoC power": self.soc_w}
        least |= {"energy of traffic": self.energy_j_per_byte}
        least |= {f"energy of {dtype}": energy for dtype, energy in self.energy_j_per_flop.items()}
        for what, value in {**above, **least}.items():
            if not math.isfinite(value) or value < 0 or (what in above and value == 0):
                allowed = "above" if what in above else "at least"
                raise TrainwattError(f"{what} {value:g} of {self.name}; it must be {allowed} 0")

    def price(self, work: Work) -> Cost:
        """Return what one execution of every row of `work` costs; see the equations of this package."""
        found = seconds(self.chip, work)
        busy = np.maximum(np.maximum(found.compute, found.l2), found.dram)
        latency = found.latency
        energies = [self.energy_j_per_flop.get(d, self.energy_j_per_flop["float32"]) for d in work.dtypes]
        per_flop = np.array(energies, dtype=np.float64)[work.dtype]
        flops = np.maximum(work.flops, 2.0 * work.macs)
        rails = {
            "GPU": flops * (per_flop if flops.ndim == 1 else per_flop[:, None]),
            "DDR": found.dram_bytes * self.energy_j_per_byte,
            "CPU": latency * self.host_w,
            "SOC": latency * self.soc_w,
            "idle": latency * self.static_w,
        }
        bound = np.where(found.compute >= np.maximum(found.l2, found.dram), 1, np.where(found.l2 >= found.dram, 2, 3))
        bound = np.where(found.start > busy + found.bias, 4, bound)
        bound = np.where(latency == 0.0, 0, bound)
        return Cost(
            latency_s=latency,
            energy_j=np.sum(list(rails.values()), axis=0),
            bound=bound.astype(np.int8),
            limits=LIMITS,
            seconds={"compute": found.compute, "L2": found.l2, "DRAM": found.dram + found.bias, "launch": found.start},
            rails=rails,
            flowing=("CPU", "SOC", "idle"),
            dispatch_s=found.kernels * self.launch_s,
            waiting_w=self.static_w + self.host_w,
        )

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        """Return how the cost of one row comes about: (label, text) in order, ending with latency, energy, bound.

        `work` must be of one batch size. Raises `TrainwattError` where it is not, or has no such row.
        """
        return explanation(self.chip, self.launch_s, self.price, work, row)

    def workspace_bytes(self, graph: Graph) -> Ints:
        """Return what the kernels of each op allocate beside the graph's storages, in bytes, shape (ops,)."""
        return workspace.workspace_bytes(self.chip, graph)

    def workspace_rows(self, work: Work) -> Ints:
        """Return the same of each row of `work`, shape (rows,) or (rows, points)."""
        return workspace.workspace_rows(self.chip, work)

    def reserved(self, graph: Graph, *, keep_gradients: bool = False) -> Reserved:
        """Return what PyTorch's caching allocator takes for steps of `graph` with this device's kernels.

        Without a limit: near the end of a board's memory the allocator could give segments back, but on a Jetson the
        system shares that memory, and measured steps failed as soon as the allocator wanted more than there is.
        `keep_gradients` as in `replay_steps`.
        """
        return replay_steps(graph, self.workspace_bytes(graph), keep_gradients=keep_gradients)
