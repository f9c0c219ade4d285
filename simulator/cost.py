"""What work costs on a device, and what a device model must offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from simulator.graph import Graph
from simulator.work import Floats, Ints, Work

BOUNDS = ("none", "compute", "memory", "launch")
"""What may bound an op, unless a device says more: nothing (it launches nothing), arithmetic, memory traffic, or
launching it."""


@dataclass(frozen=True)
class Cost:
    """Columns of cost, one row per row of `Work`, shape (rows,) or (rows, points), of ONE execution.

    `latency_s` seconds, `energy_j` joules, `bound` codes into `limits`, the names of what may bound an op on this
    device ("none" first; "dispatch" among them where a host dispatches). `seconds` is what each of these limits alone
    would take; `rails` splits `energy_j` by rail or by cause, adding up to it, and `flowing` names those that are in
    proportion to `latency_s`. Where a host dispatches ops to a queue of the device, `dispatch_s` is the host's time for
    each and `latency_s` that of the device alone; while the device waits for the host, `waiting_w` flows.
    """

    latency_s: Floats
    energy_j: Floats
    bound: npt.NDArray[np.int8]
    limits: tuple[str, ...] = BOUNDS
    seconds: Mapping[str, Floats] = field(default_factory=dict)
    rails: Mapping[str, Floats] = field(default_factory=dict)
    flowing: tuple[str, ...] = ()
    dispatch_s: Floats | None = None
    waiting_w: float = 0.0


class HardwareModel(Protocol):
    """A device with its pricing model. `workspace_bytes` is what the device's kernel library allocates inside each op
    beyond the op's own tensors, shape (ops,). `assumptions` lists every number of the device that is assumed rather
    than read or measured. `memory_bytes` is what a training process can use. `explain` derives the price of one row of
    work at one point: (label, text) in order, ending with latency, energy and bound. `static_w` is what flows however
    little the device does.
    """

    @property
    def name(self) -> str: ...
    @property
    def static_w(self) -> float: ...
    @property
    def memory_bytes(self) -> float: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...
    @property
    def card(self) -> Mapping[str, object]: ...
    def price(self, work: Work) -> Cost: ...
    def workspace_bytes(self, graph: Graph) -> Ints: ...
    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]: ...
