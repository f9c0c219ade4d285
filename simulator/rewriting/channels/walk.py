"""A walk over the ops of a graph that gives every dimension of every tensor an identity.

A rule says what the ops of a kind do to dimensions: which are equal, and what those of the results are. It is a
function of (walk, number of the op, op), registered with `@rule("kind", ...)` in a file here; it raises `Unclear`
where it does not understand the op. What no rule understands is fixed to its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from simulator.extent import Extent
from simulator.graph import Graph, Op
from simulator.rewriting.channels.dims import ONE, Dim, Unclear, Unknowns, total
from simulator.rewriting.layers import layer_of

Rule = Callable[["Walk", int, Op], None]

_RULES: dict[str, Rule] = {}


_SHRINKS = ("parameter", "buffer", "optimizer-state", "gradient")


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Register a function as what the ops of these kinds do to dimensions."""

    def register(function: Rule) -> Rule:
        for kind in kinds:
            if kind in _RULES:
                raise ValueError(f"two dimension rules for op kind {kind!r}")
            _RULES[kind] = function
        return function

    return register


@dataclass(frozen=True, slots=True)
class View:
    """How a view lies in its base.

    For each dimension of the view, `follows` has the dimension of the base whose stride it has, and what it is
    multiplied with: a step, or the sizes it steps over; None for a new one of size 1 or a repeated one. `shift` says by
    how many places of which dimension of the base the view begins later.
    """

    base: int
    follows: tuple[tuple[int, tuple[Dim, ...]] | None, ...]
    shift: tuple[tuple[int, Dim], ...] = ()


@dataclass(frozen=True, slots=True)
class Padding:
    """A zero-padded dimension: `inside` plus `before` and `after`, which op number `op` has in its attribute `pad` from
    entry `entry` on, is `outside`.
    """

    op: int
    entry: int
    inside: Dim
    outside: Dim
    before: int
    after: int


@dataclass(slots=True)
class Walk:
    """What is known of a graph's dimensions after the ops seen so far.

    `dims` has the dimensions of each tensor, `numbers` by op the attributes that depend on dimensions (a `Dim`, or a
    list of them for a tuple), `made` by layer the channels that its weight makes, in order of execution;
    `convolutions` are the layers among them that convolve.
    """

    graph: Graph
    unknowns: Unknowns = field(default_factory=Unknowns)
    dims: dict[int, list[Dim]] = field(default_factory=dict)
    numbers: dict[int, dict[str, Dim | list[Dim]]] = field(default_factory=dict)
    views: dict[int, View] = field(default_factory=dict)
    paddings: list[Padding] = field(default_factory=list)
    made: dict[str, Dim] = field(default_factory=dict)
    convolutions: set[str] = field(default_factory=set)
    _weights: dict[str, int] = field(default_factory=dict)
    _by_storage: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, tensor in enumerate(self.graph.tensors):
            self._by_storage.setdefault(tensor.storage, []).append(number)

    def run(self) -> None:
        """Walk over all ops."""
        for index, op in enumerate(self.graph.ops):
            known = _RULES.get(op.kind)
            self.unknowns.context = f"{op.name} in {op.layer}" if op.layer else op.name
            try:
                if known is None or op.phase == "loss":
                    raise Unclear
                known(self, index, op)
            except Unclear:
                self.numbers.pop(index, None)
                self._fix(op)
        for op in self.graph.ops:
            for tensor in op.saved:  # it may be made later than the op that it is saved for
                self.of(tensor)

    # -- looking ---------------------------------------------------------------------------------------------------

    def shape(self, tensor: int) -> tuple[Extent, ...]:
        """Return the shape of a tensor in the traced network."""
        return self.graph.tensors[tensor].layout.shape

    def of(self, tensor: int) -> list[Dim]:
        """Return the dimensions of a tensor.

        A parameter, or another that was there before the step, has unknown ones. What is seen without an op that made
        it is another one in the same memory that looks the same, or else fixes whatever is in that memory.
        """
        found = self.dims.get(tensor)
        if found is not None:
            return found
        own = self.graph.tensors[tensor]
        storage = self.graph.storages[own.storage]
        in_memory = [t for t in self._by_storage.get(own.storage, ()) if t in self.dims]
        alike = next((t for t in in_memory if self.graph.tensors[t].layout == own.layout), None)
        if alike is not None:
            self.dims[tensor] = self.dims[alike]
            self.views[tensor] = View(alike, tuple((d, ()) for d in range(len(self.dims[alike]))))
        elif storage.born < 0 and storage.role in _SHRINKS and not in_memory:
            self.dims[tensor] = [
                self.unknowns.fresh(e) if isinstance(e, int) and e > 1 else (e,) for e in self.shape(tensor)
            ]
        else:
            self.constant(*in_memory)
            self.dims[tensor] = [(e,) for e in self.shape(tensor)]
        return self.dims[tensor]

    def size(self, dim: Dim) -> Extent:
        """Return the size of a dimension in the traced network."""
        return self.unknowns.original(total(dim))

    def forward(self, op: Op, *kinds: str) -> Op:
        """Return the op that `op` differentiates. Raises `Unclear` where it is none of `kinds`."""
        if op.forward is None or self.graph.ops[op.forward].kind not in kinds:
            raise Unclear
        return self.graph.ops[op.forward]

    # -- saying ----------------------------------------------------------------------------------------------------

    def give(self, tensor: int, dims: Sequence[Dim], view: View | None = None) -> None:
        """Say what the dimensions of a result are, and what it is a view of.

        Raises `Unclear` where its shape says otherwise.
        """
        dims = [self.unknowns.resolve(dim) for dim in dims]
        if tuple([self.size(dim) for dim in dims]) != self.shape(tensor):
            raise Unclear
        if tensor in self.dims:
            self.equate(self.dims[tensor], dims)
        else:
            self.dims[tensor] = dims
            if view is not None:
                self.views[tensor] = view

    def equate(self, a: Iterable[Dim], b: Iterable[Dim]) -> None:
        """Make dimensions the same, one by one."""
        for one, other in zip(a, b, strict=True):
            self.unknowns.equate(one, other)

    def constant(self, *tensors: int) -> None:
        """Say that the dimensions of tensors depend on no width."""
        for tensor in tensors:
            for dim in self.of(tensor):
                self.unknowns.fix(dim)

    def makes(self, op: Op, weight: int, channels: Dim, *, convolution: bool = False) -> None:
        """Note that `op` makes `channels` with the tensor `weight`, under the layer that owns it."""
        storage = self.graph.tensors[weight].storage
        name = self.graph.storages[storage].name
        layer = layer_of(name) if name else op.layer
        if self._weights.setdefault(layer, storage) != storage:
            layer = name  # a layer with several weights
        self.made.setdefault(layer, channels)
        if convolution:
            self.convolutions.add(layer)

    def _fix(self, op: Op) -> None:
        for tensor in dict.fromkeys((*op.inputs, *op.outputs, *op.mutates)):
            if tensor in op.inputs or tensor in self.dims:
                self.constant(tensor)
            else:
                self.dims[tensor] = [(e,) for e in self.shape(tensor)]


def aligned(walk: Walk, tensors: Iterable[int], rank: int) -> list[Dim]:
    """Return the dimensions that tensors have after broadcasting to `rank`, and make them the same.

    Raises `Unclear` where their shapes do not broadcast.
    """
    common: list[Dim] = [ONE] * rank
    for tensor in tensors:
        dims, shape = walk.of(tensor), walk.shape(tensor)
        for place, (dim, size) in enumerate(zip(dims, shape, strict=True), start=rank - len(shape)):
            if size == 1:
                continue
            if common[place] is ONE:
                common[place] = dim
            else:
                walk.unknowns.equate(common[place], dim)
    return common
