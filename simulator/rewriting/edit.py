"""Rewriting a graph: ops are added, changed and removed; numbers, links and lifetimes follow.

edit = Edit(graph)
at = edit.before(edit.nodes[7], phase="backward", layer="conv1")   # a place where ops are added
pooled = aten.avg_pool2d(at, gradient, (4, 4))                     # ops of `simulator.rewriting.aten` go there
edit.remove(edit.nodes[8])
edit.sweep()                                                       # what nothing uses any more goes too
graph = edit.graph()
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from simulator.bits import BITS
from simulator.extent import Extent, substitute
from simulator.graph import ITEM_BYTES, Graph, Layout, Op, Phase, Role, Storage, Tensor
from simulator.rewriting.lifetimes import settle

# Where autograd's formulas are one per operand, it saves only what the gradients that are wanted need
# (tools/autograd/derivatives.yaml of PyTorch). All other ops have one formula and save all or nothing.
FORMULA_PER_OPERAND = frozenset({"addmm", "mm", "bmm", "baddbmm", "addbmm", "addmv", "mv", "dot", "mul", "mul_", "div"})

ON_DEMAND = "on_demand"
"""Attribute of forward ops of an autograd function of its own that does for backward only what the gradients wanted
need: its first op saves an operand only for a gradient that uses it, and what is made only to be saved goes with that.
"""

WHOLE = "whole"
"""Attribute of backward ops of an autograd function of its own that computes all its gradients if it computes one."""


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
        """Take out what no result of the step needs: backward ops without a use, and what was saved for them.

        Results are whatever is forward or loss, and what changes parameters, buffers or optimizer state.
        """
        done = self._needed(set(), narrow=False)
        due = {n.forward for n in done if n.phase == "backward"}
        self.keep(self._needed(due, narrow=True).__contains__)
        self._unsave()

    def _needed(self, due: Collection[Node | None], *, narrow: bool) -> set[Node]:
        """Return what `sweep` keeps, if backward ops that only update buffers count where their forward op is `due`.

        Such an op is of a forward pass run again in backward: it stays for as long as the gradients that it is run for.
        `narrow` says whether output masks are fitted to what is kept.
        """
        lasting = {i for i, s in enumerate(self.storages) if s.born < 0 and s.died is None}
        buffers = {i for i in lasting if self.storages[i].role == "buffer"}
        wanted: set[int] = set()  # storages
        looked_at: set[int] = set()  # tensors, which are what a view must make
        updated: set[int] = set()  # those of parameters and state that the optimizer takes
        needed: set[Node] = set()
        for node in reversed(self.nodes):
            written = {self.tensors[t].storage for t in (*node.outputs, *node.mutates)}
            changed = lasting.intersection(self.tensors[t].storage for t in node.mutates)
            if node.phase == "backward" and node.forward is not None and node.forward not in due:
                changed -= buffers
            looked = looked_at | updated if node.phase == "optimizer" else looked_at
            used = bool(looked.intersection(node.outputs)) if self._is_view(node) else bool(written & wanted)
            reads = node.phase == "optimizer" and not node.outputs  # a step count, say, for Python
            whole = WHOLE in node.attrs and node.forward in due
            if node.phase in ("forward", "loss") or changed or used or reads or whole:
                needed.add(node)
                if narrow:
                    self._mask(node, wanted)
                wanted.update(self.tensors[t].storage for t in node.inputs)
                if node.phase == "backward" and node.forward is not None:
                    wanted.update(self.tensors[t].storage for t in node.forward.saved)
                # What views a parameter in backward is no result because the optimizer uses the parameter too.
                for t in node.inputs:
                    later = node.phase == "optimizer" and self.tensors[t].storage in lasting
                    (updated if later else looked_at).add(t)
        return needed

    def _is_view(self, node: Node) -> bool:
        sources = {self.tensors[t].storage for t in node.inputs}
        return not node.mutates and all(self.tensors[t].storage in sources for t in node.outputs)

    def _mask(self, node: Node, wanted: set[int]) -> None:
        """Let an op with an output mask make only the outputs that are wanted."""
        mask = node.attrs.get("output_mask")
        if node.phase != "backward" or not isinstance(mask, tuple) or sum(map(bool, mask)) != len(node.outputs):
            return
        outputs = iter(node.outputs)
        made = [next(outputs) if on else None for on in mask]
        kept = [t if t is not None and self.tensors[t].storage in wanted else None for t in made]
        if kept != made:
            node.outputs = tuple(t for t in kept if t is not None)
            node.attrs = MappingProxyType({**node.attrs, "output_mask": tuple(t is not None for t in kept)})

    def _unsave(self) -> None:
        uses: dict[Node, set[int]] = {}
        for node in self.nodes:
            if node.forward is not None:
                uses.setdefault(node.forward, set()).update(self.tensors[t].storage for t in node.inputs)
        before, saving = self._saved(), [node for node in self.nodes if node.saved]
        for node in saving:
            if node not in uses:
                node.saved = ()
            elif node.kind in FORMULA_PER_OPERAND or not node.attrs.keys().isdisjoint((BITS, ON_DEMAND)):
                node.saved = tuple(t for t in node.saved if self.tensors[t].storage in uses[node])
        # An op in place whose gradient needs what it overwrites is preceded by a copy, made only to be saved; so are
        # copies in a smaller dtype. Where the op runs again in backward, the copy of its first run is saved by none.
        before.update(t for node in saving if not node.saved and node.kind == "clone" for t in node.outputs)
        forgotten = before - self._saved() - {t for node in self.nodes for t in node.inputs}
        copies = ("clone", "_to_copy")
        self.keep(
            lambda node: not (node.kind in copies or ON_DEMAND in node.attrs) or not forgotten.issuperset(node.outputs)
        )

    def _saved(self) -> set[int]:
        return {t for node in self.nodes for t in node.saved}

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
        saved = {self.tensors[t].storage for t in self._saved()}
        storage_number = {old: new for new, old in enumerate(sorted(live))}
        tensor_number = {old: new for new, old in enumerate(sorted(used))}
        tensors = tuple(replace(self.tensors[t], storage=storage_number[self.tensors[t].storage]) for t in sorted(used))

        def numbers(ids: tuple[int, ...]) -> tuple[int, ...]:
            return tuple([tensor_number[t] for t in ids])

        ops = tuple(
            Op(
                node.name,
                node.kind,
                node.phase,
                node.layer,
                numbers(node.inputs),
                numbers(node.outputs),
                numbers(node.mutates),
                numbers(node.saved),
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
            storages.append(replace(storage, role=role, born=born, died=died, held=held))
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


def numel(shape: Iterable[Extent]) -> Extent:
    """Return the number of elements of a shape."""
    count: Extent = 1
    for extent in shape:
        count = count * extent
    return count


def contiguous(shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """Return the strides of a contiguous tensor."""
    stride: list[Extent] = []
    step: Extent = 1
    for extent in reversed(shape):
        stride.append(step)
        step = step * extent
    return tuple(reversed(stride))


def _substituted(value: Any, values: Mapping[str, Extent]) -> Any:
    if isinstance(value, tuple):
        return tuple(_substituted(v, values) for v in value)
    if isinstance(value, bool) or not hasattr(value, "terms"):
        return value
    return substitute(value, values)
