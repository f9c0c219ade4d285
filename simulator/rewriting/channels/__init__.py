"""Channel groups: which widths of a network must change together, and a graph in which they can.

`channel_graph(graph)` finds the groups from the ops of a training step and returns the same step with a named
dimension for each. Binding smaller sizes to them prunes channels as re-batching changes the batch: every shape,
stride, block of memory and attribute follows.

The number of channels of the inputs and of classes is fixed. So is every width that passes an op whose effect on
dimensions is not known; `Channels.fixed` says which op it was.
"""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from simulator.errors import TrainwattError, unknown
from simulator.extent import Extent, Poly, evaluate, substitute, symbol
from simulator.graph import Graph, Layout, Storage, Tensor, Untraceable
from simulator.rewriting.channels import layers, losses, pointwise, views  # noqa: F401  # their rules register themselves
from simulator.rewriting.channels.dims import Dim
from simulator.rewriting.channels.numbers import Numbers
from simulator.rewriting.channels.walk import Walk


@dataclass(frozen=True, slots=True)
class Group:
    """Channels that change together.

    `size` is their number today, in units: a layer of `units` makes that many channels of each (1, or where groups of
    a grouped convolution must stay equal, their number). `convolution` tells whether a convolution is among them.
    """

    symbol: str
    size: int
    units: Mapping[str, int]
    convolution: bool

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that make these channels, in order of execution."""
        return tuple(self.units)


@dataclass(frozen=True, slots=True)
class Gap:
    """The zeros put before a padded width: `before` of every `whole` of those that are added in all, `total`."""

    total: Extent
    before: int
    whole: int
    layer: str

    def size(self, sizes: Mapping[str, int]) -> int:
        """Return the zeros before, with `sizes` bound to the widths. Raises `TrainwattError` where they are below 0."""
        added = int(evaluate(self.total, sizes))
        if added < 0:
            raise TrainwattError(
                f"{-added} channels more enter the padding in {self.layer} than leave it; "
                "prune the layers before it at least as much"
            )
        return added * self.before // self.whole


@dataclass(frozen=True)
class Channels:
    """A training step with named widths.

    `graph.sizes` binds them to what they are. `groups` are the widths by their symbol, `widths` the output channels
    of each layer in terms of them, `fixed` says of each layer whose width cannot change which op fixes it.
    """

    graph: Graph
    groups: Mapping[str, Group]
    widths: Mapping[str, Extent]
    fixed: Mapping[str, str]
    gaps: Mapping[str, Gap] = field(default_factory=dict)

    def bind(self, sizes: Mapping[str, int]) -> Graph:
        """Return the step with the groups in `sizes` at these sizes, in units, and all others as they are.

        What depends on the batch still does. Raises `TrainwattError` for an unknown group, a size below 1, and
        where a padded width would become smaller than what it pads.
        """
        for name, size in sizes.items():
            if name not in self.groups:
                raise unknown("channel group", name, self.groups, "see Channels.groups")
            if size < 1:
                raise TrainwattError(f"channel group {name!r} of size {size}; at least 1 channel stays")
        values = {name: sizes.get(name, group.size) for name, group in self.groups.items()}
        values |= {name: gap.size(values) for name, gap in self.gaps.items()}
        return substituted(self.graph, values)


_FOUND: deque[tuple[Graph, Channels]] = deque(maxlen=4)
"""The last steps whose groups were found: a step is usually pruned several times, and its groups take the longest."""


def channel_graph(graph: Graph) -> Channels:
    """Return `graph` with a named dimension for every group of channels.

    With the sizes that `Channels.graph.sizes` gives them, every number is what it was. Raises `TrainwattError` where
    a block of memory is used in a way that leaves its size unknown.
    """
    for before, found in _FOUND:
        if _alike(before, graph):
            return replace(found, graph=replace(found.graph, meta=graph.meta))
    _FOUND.append((graph, _channel_graph(graph)))
    return _FOUND[-1][1]


def _alike(one: Graph, other: Graph) -> bool:
    """Whether two graphs are the same but for what their `meta` says."""
    same = all(getattr(one, name) is getattr(other, name) for name in ("ops", "tensors", "storages", "other"))
    return same and all(getattr(one, name) == getattr(other, name) for name in ("sizes", "shares", "smallest_batch"))


def _channel_graph(graph: Graph) -> Channels:
    walk = Walk(graph)
    walk.run()
    unknowns = walk.unknowns
    _settle(walk)
    taken = set(graph.sizes)
    names: dict[str, Extent] = {}
    for layer, dim in walk.made.items():
        for one in unknowns.free(dim):
            if one not in names:
                names[one] = symbol(_identifier(layer, taken))
    numbers = Numbers(walk, names)
    widths = {layer: numbers.size(dim) for layer, dim in walk.made.items()}
    groups = {}
    for one, called in names.items():
        units = {layer: k for layer, width in widths.items() if (k := _coefficient(width, str(called)))}
        convolution = not walk.convolutions.isdisjoint(units)
        groups[str(called)] = Group(str(called), unknowns.value[one], MappingProxyType(units), convolution)
    gaps, padded = _gaps(walk, numbers, taken)
    tensors = numbers.tensors()
    storages = [replace(s, size_bytes=n) for s, n in zip(graph.storages, numbers.storage_bytes(), strict=True)]
    ops = [
        op if op.attrs is attrs else op.but(attrs=attrs)
        for op, attrs in zip(graph.ops, numbers.attributes(padded), strict=True)
    ]
    sizes = {**graph.sizes, **{name: group.size for name, group in groups.items()}}
    sizes |= {name: gap.size(sizes) for name, gap in gaps.items()}
    other = graph.other
    if isinstance(other, Graph):
        try:
            other = channel_graph(other).graph
        except TrainwattError as error:
            other = Untraceable(str(error))
    named = replace(
        graph, ops=tuple(ops), tensors=tensors, storages=tuple(storages), sizes=MappingProxyType(sizes), other=other
    )
    fixed = {
        layer: unknowns.why(dim) or "having one channel only"
        for layer, dim in walk.made.items()
        if isinstance(widths[layer], int)
    }
    return Channels(named, groups, widths, fixed, gaps)


def substituted(graph: Graph, values: Mapping[str, int]) -> Graph:
    """Return `graph` with some of its dimensions replaced by numbers; they are no dimensions any more."""

    @cache
    def number(extent: Extent) -> Extent:
        return substitute(extent, values)

    @cache
    def layout(old: Layout) -> Layout:
        new = Layout(tuple(map(number, old.shape)), tuple(map(number, old.stride)), old.dtype)
        return old if new == old else new

    def attribute(value: Any) -> Any:
        if isinstance(value, tuple):
            new = tuple([attribute(v) for v in value])
            return value if new == value else new
        return number(value) if isinstance(value, Poly) else value

    tables = {id(op.attrs): op.attrs for op in graph.ops}
    changed = {key: _changed(table, attribute) for key, table in tables.items()}
    return replace(
        graph,
        ops=tuple([op if (new := changed[id(op.attrs)]) is op.attrs else op.but(attrs=new) for op in graph.ops]),
        tensors=tuple([_laid(t, layout(t.layout), number(t.offset)) for t in graph.tensors]),
        storages=tuple([_sized(s, number(s.size_bytes)) for s in graph.storages]),
        sizes=MappingProxyType({name: size for name, size in graph.sizes.items() if name not in values}),
        other=substituted(graph.other, values) if isinstance(graph.other, Graph) else graph.other,
    )


def _changed(table: Mapping[str, Any], attribute: Callable[[Any], Any]) -> Mapping[str, Any]:
    new = {name: attribute(value) for name, value in table.items()}
    return table if all(map(operator.is_, new.values(), table.values())) else MappingProxyType(new)


def _laid(tensor: Tensor, layout: Layout, offset: Extent) -> Tensor:
    return tensor if (layout, offset) == (tensor.layout, tensor.offset) else Tensor(layout, tensor.storage, offset)


def _sized(storage: Storage, size: Extent) -> Storage:
    if size == storage.size_bytes:
        return storage
    return Storage(size, storage.role, storage.born, storage.died, storage.name, storage.held)


def _settle(walk: Walk) -> None:
    """Fix every unknown that is no width of a convolution or linear layer."""
    unknowns = walk.unknowns
    for dim in walk.made.values():
        pieces = unknowns.resolve(dim)
        if not all(isinstance(p, Poly) and all(len(monomial) == 1 for monomial, _ in p.terms) for p in pieces):
            unknowns.fix(dim, "a part of it that is fixed, or a product of widths")
    free = {name for dim in walk.made.values() for name in unknowns.free(dim)}
    for padding in walk.paddings:
        if not free.issuperset(unknowns.free(padding.outside)):
            layer = walk.graph.ops[padding.op].layer
            unknowns.fix(padding.inside, f"the padding in {layer}, whose result meets no other width")
    free = {name for dim in walk.made.values() for name in unknowns.free(dim)}
    for name in list(unknowns.value):
        for one in unknowns.free((symbol(name),)):
            if one not in free:
                unknowns.fix((symbol(one),), "no convolution or linear layer makes it")


def _gaps(walk: Walk, numbers: Numbers, taken: set[str]) -> tuple[dict[str, Gap], dict[int, dict[int, Extent]]]:
    """Return the gaps of padded widths by their symbol, and the entries of `pad` that depend on widths, by op."""
    gaps: dict[str, Gap] = {}
    padded: dict[int, dict[int, Extent]] = {}
    before: dict[tuple[Dim, Dim], Extent] = {}
    for padding in walk.paddings:
        op = walk.graph.ops[padding.op]
        added = numbers.size(padding.outside) + numbers.size(padding.inside) * -1
        if isinstance(added, int):
            continue
        key = (padding.inside, padding.outside)
        if key not in before:
            before[key] = 0 if not padding.before else added
            if padding.before and padding.after:
                name = _identifier(f"zeros_{op.layer}", taken)
                gaps[name] = Gap(added, padding.before, padding.before + padding.after, op.layer)
                before[key] = symbol(name)
        sign = 1 if op.forward is None else -1
        entries = padded.setdefault(padding.op, {})
        entries[padding.entry] = before[key] * sign
        entries[padding.entry + 1] = (added - before[key]) * sign
    return gaps, padded


def _coefficient(width: Extent, name: str) -> int:
    return 0 if isinstance(width, int) else dict(width.terms).get((name,), 0)


def _identifier(layer: str, taken: set[str]) -> str:
    """Return a name like `layer` that an extent can hold and that is not taken; it is taken then."""
    name = re.sub(r"\W", "_", layer)
    name = name if name[:1].isalpha() else f"channels_{name}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name
