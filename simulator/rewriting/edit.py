"""Rewriting a graph: ops are added, changed and removed; numbers, links and lifetimes follow.

edit = Edit(graph)
at = edit.before(edit.nodes[7], phase="backward", layer="conv1")   # a place where ops are added
pooled = aten.avg_pool2d(at, gradient, (4, 4))                     # ops of `simulator.rewriting.aten` go there
edit.remove(edit.nodes[8])
edit.sweep()                                                       # what nothing uses any more goes too
graph = edit.graph()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from simulator.extent import Extent, substitute
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Phase, Role, Storage, Tensor
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.lifetimes import settle
from simulator.rewriting.node import Node, saved_by
from simulator.rewriting.shapes import contiguous, numel
from simulator.rewriting.sweep import sweep


class Edit:
    """A graph being rewritten. `nodes` are its ops in execution order, `tensors` and `storages` grow by number."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.tensors = list(graph.tensors)
        self.storages = list(graph.storages)
        self.nodes: list[Node] = []
        for op in graph.ops:
            forward = None if op.forward is None else self.nodes[op.forward]
            self.nodes.append(
                Node(
                    op.name,
                    op.kind,
                    op.phase,
                    op.layer,
                    op.inputs,
                    op.outputs,
                    op.mutates,
                    op.saved,
                    op.attrs,
                    forward,
                    op.runs,
                )
            )
        self._held = {i: [self.nodes[s.held]] for i, s in enumerate(graph.storages) if s.held >= 0}
        self._previous: dict[Node, Node | None] = {}
        self._layouts: dict[Layout, Layout] = {}

    # -- places ----------------------------------------------------------------------------------------------------

    def before(
        self, node: Node, *, phase: Phase | None = None, layer: str | None = None, forward: Node | None = None
    ) -> Cursor:
        """Return a place just before `node`; phase and layer are `node`'s unless given."""
        return Cursor(self, node, True, phase or node.phase, node.layer if layer is None else layer, forward)

    def after(
        self, node: Node, *, phase: Phase | None = None, layer: str | None = None, forward: Node | None = None
    ) -> Cursor:
        """Return a place just after `node` and after what is added there; phase and layer as in `before`."""
        return Cursor(self, node, False, phase or node.phase, node.layer if layer is None else layer, forward)

    # -- tensors ---------------------------------------------------------------------------------------------------

    def shape(self, tensor: int) -> tuple[Extent, ...]:
        return self.tensors[tensor].layout.shape

    def layout(self, shape: Iterable[Extent], dtype: str, stride: Iterable[Extent] | None = None) -> Layout:
        """Return a layout, contiguous unless `stride` is given; equal ones are one object, as pricing likes."""
        shape = tuple(shape)
        layout = Layout(shape, contiguous(shape) if stride is None else tuple(stride), dtype)
        return self._layouts.setdefault(layout, layout)

    def new(self, layout: Layout, role: Role = "temporary", name: str = "", *, persistent: bool = False) -> int:
        """Return a tensor with a storage of its own; a `persistent` one is there before and after the step."""
        size = numel(layout.shape) * ITEM_BYTES[layout.dtype]
        self.storages.append(Storage(size, role, -1, None, name) if persistent else Storage(size, role, 0, 0, name))
        self.tensors.append(Tensor(layout, len(self.storages) - 1))
        return len(self.tensors) - 1

    def view(self, tensor: int, layout: Layout, offset: Extent | None = None) -> int:
        """Return another view of the storage of `tensor`."""
        base = self.tensors[tensor]
        self.tensors.append(Tensor(layout, base.storage, base.offset if offset is None else offset))
        return len(self.tensors) - 1

    def hold(self, tensor: int, until: Node) -> None:
        """Say that the program itself keeps the storage of `tensor` until the end of `until`."""
        self.hold_storage(self.tensors[tensor].storage, until)

    def hold_storage(self, storage: int, until: Node) -> None:
        """Say the same of storage number `storage`."""
        self._held.setdefault(storage, []).append(until)

    def holders(self, storage: int) -> tuple[Node, ...]:
        """Return the nodes until whose end the program itself keeps storage number `storage`."""
        return tuple(self._held.get(storage, ()))

    def release_storage(self, storage: int) -> None:
        """Say that the program itself keeps storage number `storage` no longer than ops use it."""
        self._held.pop(storage, None)

    # -- ops -------------------------------------------------------------------------------------------------------

    def remove(self, node: Node) -> None:
        """Take `node` out."""
        at = self.nodes.index(node)
        self._previous[node] = self.nodes[at - 1] if at else None
        del self.nodes[at]

    def keep(self, wanted: Callable[[Node], bool]) -> None:
        """Take every node out that is not `wanted`."""
        kept: list[Node] = []
        for node in self.nodes:
            if wanted(node):
                kept.append(node)
            else:
                self._previous[node] = kept[-1] if kept else None
        self.nodes = kept

    def substitute(self, old: int, new: int) -> None:
        """Let every op that takes or saves tensor `old` take `new`."""
        for node in self.nodes:
            if old in node.inputs:
                node.inputs = tuple(new if t == old else t for t in node.inputs)
            if old in node.saved:
                node.saved = tuple(new if t == old else t for t in node.saved)

    def backward_of(self, node: Node) -> list[Node]:
        """Return the nodes that differentiate `node`, in order."""
        return [n for n in self.nodes if n.forward is node]

    def sweep(self) -> None:
        """Take out what no result of the step needs; see `simulator.rewriting.sweep`."""
        sweep(self)

    def resize(self, nodes: Iterable[Node], values: Mapping[str, Extent]) -> None:
        """Replace dimensions (`batch`) by other extents in everything that `nodes` make and in their attributes.

        What they take from elsewhere stays as it is; the caller connects the two sides.
        """
        nodes = list(nodes)
        made = {self.tensors[t].storage for node in nodes for t in node.outputs}
        made = {s for s in made if self.storages[s].born >= 0}
        for s in made:
            self.storages[s] = replace(self.storages[s], size_bytes=substitute(self.storages[s].size_bytes, values))
        changed: dict[Layout, Layout] = {}
        for i, tensor in enumerate(self.tensors):
            if tensor.storage in made:
                old = tensor.layout
                if old not in changed:
                    shape, stride = ([substitute(e, values) for e in part] for part in (old.shape, old.stride))
                    changed[old] = self.layout(shape, old.dtype, stride)
                self.tensors[i] = Tensor(changed[old], tensor.storage, substitute(tensor.offset, values))
        tables: dict[int, Mapping[str, Any]] = {}
        for node in nodes:
            if id(node.attrs) not in tables:
                tables[id(node.attrs)] = MappingProxyType(
                    {name: _substituted(value, values) for name, value in node.attrs.items()}
                )
            node.attrs = tables[id(node.attrs)]

    # -- the result ------------------------------------------------------------------------------------------------

    def graph(self, **changes: Any) -> Graph:
        """Return the rewritten graph; `changes` are further fields of it (`shares`, `meta`)."""
        number = {node: i for i, node in enumerate(self.nodes)}
        used = {t for node in self.nodes for t in (*node.tensors, *node.saved)}
        live = {self.tensors[t].storage for t in used}
        live |= {
            i
            for i, s in enumerate(self.storages)
            if s.born < 0 and s.died is None and s.role in ("parameter", "buffer", "input")
        }
        saved = {self.tensors[t].storage for t in saved_by(self.nodes)}
        storage_number = {old: new for new, old in enumerate(sorted(live))}
        tensor_number = {old: new for new, old in enumerate(sorted(used))}
        tensors = tuple([_moved(self.tensors[t], storage_number) for t in sorted(used)])

        number_of = tensor_number.__getitem__

        ops = tuple(
            Op(
                node.name,
                node.kind,
                node.phase,
                node.layer,
                tuple(map(number_of, node.inputs)),
                tuple(map(number_of, node.outputs)),
                tuple(map(number_of, node.mutates)),
                tuple(map(number_of, node.saved)),
                node.attrs,
                None if node.forward is None else number.get(node.forward),
                node.runs,
            )
            for node in self.nodes
        )
        storages = []
        for i in sorted(live):
            storage = self.storages[i]
            held = max((self._position(node, number) for node in self._held.get(i, ())), default=-1)
            role = storage.role
            if role in ("activation", "saved"):
                role = "saved" if i in saved else "activation"
            # Lifetimes are settled below; until then they only say whether it lives before and after the step.
            born, died = min(storage.born, 0), None if storage.died is None else min(storage.died, 0)
            storages.append(Storage(storage.size_bytes, role, born, died, storage.name, held))
        fields = {"sizes": self._graph.sizes, "meta": self._graph.meta, "shares": self._graph.shares, **changes}
        return Graph(
            ops,
            tensors,
            settle(ops, tensors, storages),
            smallest_batch=self._graph.smallest_batch,
            other=self._graph.other,
            **fields,
        )

    def _position(self, node: Node | None, number: Mapping[Node, int]) -> int:
        """Return the number of `node`, of what came before it where it was taken out; -1 where nothing did."""
        while node is not None and node not in number:
            node = self._previous[node]
        return -1 if node is None else number[node]


def _moved(tensor: Tensor, storage_number: Mapping[int, int]) -> Tensor:
    storage = storage_number[tensor.storage]
    return tensor if storage == tensor.storage else Tensor(tensor.layout, storage, tensor.offset)


def _substituted(value: Any, values: Mapping[str, Extent]) -> Any:
    if isinstance(value, tuple):
        return tuple(_substituted(v, values) for v in value)
    if isinstance(value, bool) or not hasattr(value, "terms"):
        return value
    return substitute(value, values)
