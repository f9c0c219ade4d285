"""An op under edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from simulator.graph import Phase


@dataclass(eq=False, slots=True)
class Node:
    """An op under edit: `simulator.graph.Op` with a link to its forward node instead of a number."""

    name: str
    kind: str
    phase: Phase
    layer: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    mutates: tuple[int, ...] = ()
    saved: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    forward: Node | None = None
    runs: float = 1.0

    @property
    def tensors(self) -> tuple[int, ...]:
        """All tensors the op uses or makes."""
        return (*self.inputs, *self.outputs, *self.mutates)


def saved_by(nodes: Iterable[Node]) -> set[int]:
    """Return the tensors that autograd keeps of `nodes`."""
    return {t for node in nodes for t in node.saved}
