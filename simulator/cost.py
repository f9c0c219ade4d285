"""What work costs on a device, and what a device model must offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simulator.graph import Graph
from simulator.work import Floats, Ints, Work

BOUNDS = ("none", "compute", "memory", "launch")
"""What may bound an op: nothing (it launches nothing), arithmetic, memory traffic, or launching it."""


@dataclass(frozen=True)
class Cost:
    """Columns of cost, one row per row of `Work`, shape (rows,) or (rows, points), of ONE execution.

    `latency_s` seconds, `energy_j` joules, `bound` codes into `BOUNDS`.
    """

    latency_s: Floats
    energy_j: Floats
    bound: npt.NDArray[np.int8]


class HardwareModel(Protocol):
    """A device with its pricing model. `workspace_bytes` is what the device's kernel library allocates inside each op
    beyond the op's own tensors, shape (ops,). `assumptions` lists every number of the device that is assumed rather
    than read or measured. `memory_bytes` is what a training process can use.
    """

    @property
    def name(self) -> str: ...
    @property
    def memory_bytes(self) -> float: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...
    @property
    def card(self) -> Mapping[str, object]: ...
    def price(self, work: Work) -> Cost: ...
    def workspace_bytes(self, graph: Graph) -> Ints: ...
