"""A place in a graph under edit where ops are added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simulator.extent import Extent
from simulator.graph import Phase, Role
from simulator.rewriting.node import Node

if TYPE_CHECKING:
    from simulator.rewriting.edit import Edit


@dataclass
class Cursor:
    """A place in the order of ops where new ones are added, with what they have in common."""

    edit: Edit
    anchor: Node
    ahead: bool
    phase: Phase
    layer: str
    forward: Node | None = None
    runs: float = 1.0
    _frames: list[set[int]] = field(default_factory=list)

    def call(
        self,
        name: str,
        inputs: Iterable[int],
        outputs: Iterable[int],
        attrs: Mapping[str, Any] | None = None,
        *,
        kind: str | None = None,
        mutates: Iterable[int] = (),
        saved: Iterable[int] = (),
    ) -> Node:
        """Add an op here; `kind` is what follows from the ATen name unless given."""
        edit = self.edit
        node = Node(
            name,
            kind or name.partition("::")[2].partition(".")[0],
            self.phase,
            self.layer,
            tuple(inputs),
            tuple(outputs),
            tuple(mutates),
            tuple(saved),
            MappingProxyType(dict(attrs or {})),
            self.forward,
            self.runs,
        )
        at = edit.nodes.index(self.anchor)
        edit.nodes.insert(at if self.ahead else at + 1, node)
        if not self.ahead:
            self.anchor = node
        if self._frames:
            self._frames[-1].update(edit.tensors[t].storage for t in node.outputs if t not in node.mutates)
        self._last = node
        return node

    @property
    def last(self) -> Node:
        """The op added last."""
        return self._last

    def result(self, shape: Iterable[Extent], dtype: str, stride: Iterable[Extent] | None = None) -> int:
        """Return a tensor for an op added here to make."""
        role: Role = "activation" if self.phase in ("forward", "loss") else "temporary"
        return self.edit.new(self.edit.layout(shape, dtype, stride), role)

    @contextmanager
    def frame(self, *arguments: int) -> Iterator[None]:
        """Add ops as a function does that keeps its arguments and local variables until it returns."""
        self._frames.append({self.edit.tensors[t].storage for t in arguments})
        try:
            yield
        finally:
            for storage in self._frames.pop():
                if self.edit.storages[storage].born >= 0:
                    self.edit.hold_storage(storage, self._last)

    def drop(self, tensor: int) -> None:
        """Let the function forget a local variable of the frame now (it is deleted, or has no name)."""
        if self._frames:
            self._frames[-1].discard(self.edit.tensors[tensor].storage)
