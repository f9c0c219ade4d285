"""A device model around another one, which says what the other says unless it says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from simulator.allocators.replaying import Reserved
from simulator.cost import HardwareModel
from simulator.graph import Graph
from simulator.work import Ints, Work


@dataclass(frozen=True)
class Wrapped:
    """Everything of a `HardwareModel` but `price`, as `model` has it."""

    model: HardwareModel

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def static_w(self) -> float:
        return self.model.static_w

    @property
    def memory_bytes(self) -> float:
        return self.model.memory_bytes

    @property
    def assumptions(self) -> tuple[str, ...]:
        return self.model.assumptions

    @property
    def card(self) -> Mapping[str, Any]:
        return self.model.card

    def in_step(self, work: Work, graph: Graph) -> Work:
        """Return the work of a step with what its ops meet there, where the model tells that from an op alone."""
        found = getattr(self.model, "in_step", None)
        return work if found is None else cast(Work, found(work, graph))

    def workspace_bytes(self, graph: Graph) -> Ints:
        return self.model.workspace_bytes(graph)

    def reserved(self, graph: Graph) -> Reserved | None:
        """Return what the device's allocator reserves, where it has one."""
        replayed = getattr(self.model, "reserved", None)
        return None if replayed is None else cast(Reserved, replayed(graph))

    def explain(self, work: Work, row: int) -> tuple[tuple[str, str], ...]:
        return self.model.explain(work, row)
