"""Selective layer update."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from simulator.errors import TrainwattError
from simulator.extent import Extent, Poly, symbol
from simulator.graph import LOSS_LAYER, Graph, Share
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.gating import Gate, Gates
from simulator.rewriting.node import Node
from simulator.rewriting.residual import BlockBackward, ResidualBlock, block_backward, residual_blocks
from simulator.rewriting.shapes import contiguous
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class SelectiveLayerUpdate(Technique):
    """Let a learned gate decide for each instance which residual blocks it executes, forward and backward.

    A gate in front of every residual block but the first sees the block's input x and draws, for each instance, whether
    the block runs (m = 1) or is skipped (m = 0):

        x' = m block(x) + (1 - m) x

    The executed instances are gathered, the block runs on them alone (batch norm sees them alone, too), and the result
    is put back among the others. A share `execute` of the instances executes a block, or `shares` of each gated block;
    both are what the data come to, in the expectation. The gates (see `rewriting.gating`; `gate` hidden units) are
    trained along; weights, their gradients and their updates stay whole. In the loss, +-`beta` a block executed drives
    the share to the one wanted.

    A residual block is a module that adds its own input, unchanged, to what it computes; blocks whose branch changes
    the shape always run (the publication's code skips these too, but for their shortcut). Of E2-Train's cost,
    kappa (1 - p) q c_PSG, this is the factor q on the gated blocks.

    Wang et al., "E2-Train: Training State-of-the-art CNNs with Over 80% Energy Savings", NeurIPS 2019,
    arXiv:1910.13349; gates after Wang et al., "SkipNet", ECCV 2018, arXiv:1711.09485.
    """

    name: ClassVar[str] = "slu"

    execute: float = 0.4
    shares: tuple[float, ...] = ()
    gate: int = 10
    beta: float = 1e-5

    def __post_init__(self) -> None:
        check(0 < self.execute <= 1, self, "execute", "a share above 0, at most 1")
        check(all(0 < share <= 1 for share in self.shares), self, "shares", "shares above 0, at most 1")
        check(self.gate >= 1, self, "gate", "a number of hidden units, at least 1")
        check(self.beta >= 0, self, "beta", "at least 0")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with gates; raises `TrainwattError` where there are no blocks to gate or no gradient."""
        if graph.meta.get("accumulate", 1) != 1:
            raise TrainwattError("slu on a step of several micro-batches; apply it to a step with accumulate=1")
        edit = Edit(graph)
        blocks = residual_blocks(edit)[1:]
        if not blocks:
            raise TrainwattError(
                "slu on a step with fewer than two residual blocks; it skips blocks that run once and add their input"
            )
        backward = [block_backward(edit, block) for block in blocks]
        found = {}
        names = [_unused(graph, f"executed{i}") for i in range(len(blocks))]
        for name, block, share in zip(names, blocks, self.shares_of(len(blocks)), strict=True):
            found[name] = Share(_batch(edit, block), share, varies=True)
        gates = Gates(edit, [_channels(edit, block) for block in blocks], self.gate)
        gated: list[_Gated] = []
        moved: dict[int, int] = {}  # the result of one block may be the input of the next
        for i, block in enumerate(blocks):
            blocks[i] = replace(block, x=moved.get(block.x, block.x))
            gated.append(_gate(gates, i, blocks[i], names[i]))
            moved[block.y] = gated[-1].out
        # The sign of the cost depends on how the shares wanted and drawn differ so far; its work does not.
        _penalise(edit, [g.gate for g in gated], -self.beta)
        moved.clear()
        for i in reversed(range(len(blocks))):
            way = backward[i]
            way = replace(way, dy=_last(moved, way.dy), dx=None if way.dx is None else _last(moved, way.dx))
            made = _backward(gates, i, blocks[i], way, gated[i], names[i])
            if way.dx is not None:
                moved[way.dx] = made
        gates.update()
        more = sum(gates.sizes)
        counts = {k: graph.meta[k] + more for k in ("parameters", "trained_parameters") if k in graph.meta}
        return edit.graph(shares=MappingProxyType({**graph.shares, **found}), meta={**graph.meta, **counts})

    def shares_of(self, blocks: int) -> tuple[float, ...]:
        """Return the executed share of each of the gated blocks.

        Raises `TrainwattError` where `shares` are given for another number of blocks.
        """
        if self.shares and len(self.shares) != blocks:
            raise TrainwattError(f"slu with {len(self.shares)} shares; the network has {blocks} gated blocks")
        return self.shares or (self.execute,) * blocks


@dataclass(frozen=True, eq=False)
class _Gated:
    gate: Gate
    taken: int
    out: int
    select: Node
    combine: Node


def _cursor(at: Cursor) -> Cursor:
    at.runs = at.anchor.runs
    return at


def _last(moved: dict[int, int], tensor: int) -> int:
    while tensor in moved:
        tensor = moved[tensor]
    return tensor


def _unused(graph: Graph, name: str) -> str:
    while name in graph.sizes:
        name += "_"
    return name


def _batch(edit: Edit, block: ResidualBlock) -> str:
    """Return the dimension that counts the instances of a block. Raises `TrainwattError` where it has none."""
    layout = edit.tensors[block.x].layout
    whole = layout.shape[0]
    if not isinstance(whole, Poly) or len(whole.terms) != 1 or whole != symbol(whole.terms[0][0][0]):
        raise TrainwattError(f"{block.layer!r} takes {whole} instances; slu needs a step whose batch may change")
    if layout.dtype != "float32" or layout.stride != contiguous(layout.shape):
        raise TrainwattError(f"{block.layer!r} takes {layout.dtype} images; slu knows contiguous float32 ones")
    return whole.terms[0][0][0]


def _channels(edit: Edit, block: ResidualBlock) -> int:
    channels = edit.shape(block.x)[1]
    assert isinstance(channels, int), "a number of channels that depends on the batch"
    return channels


def _gate(gates: Gates, place: int, block: ResidualBlock, name: str) -> _Gated:
    """Put a gate before `block` and its result among the instances that skip it."""
    edit = gates.edit
    at = _cursor(edit.before(block.forward[0]))
    gate = gates.forward(at, place, block.x, symbol(name))
    at.layer = block.layer
    taken = aten.index_select(at, block.x, 0, gate.index, saved=[gate.index])
    select = at.last
    _replace(block.forward, {block.x: taken})
    at = _cursor(edit.after(block.forward[-1], layer=block.layer))
    out = at.result(edit.shape(block.x), "float32")
    combine = at.call(
        "aten::index_copy", [block.x, gate.index, block.y], [out], {"dim": 0}, saved=[gate.index, block.y, taken]
    )
    inside = {*block.forward, combine}
    inside |= {n for n in edit.nodes if n.forward in inside}
    outside = [n for n in edit.nodes if n not in inside]
    _replace(outside, {block.y: out})
    before, after = edit.tensors[block.y].storage, edit.tensors[out].storage
    for t in {t for n in outside for t in (*n.tensors, *n.saved)} - {t for n in inside for t in (*n.tensors, *n.saved)}:
        if edit.tensors[t].storage == before:  # a view of the result
            edit.tensors[t] = replace(edit.tensors[t], storage=after)
    for until in edit.holders(before):
        edit.hold(out, until)
    edit.release_storage(before)
    edit.hold(block.y, combine)
    edit.hold(taken, combine)
    return _Gated(gate, taken, out, select, combine)


def _backward(gates: Gates, place: int, block: ResidualBlock, backward: BlockBackward, gated: _Gated, name: str) -> int:
    """Run the backward pass of `block` on the executed instances, and that of its gate after it.

    Returns the gradient of the block's input.
    """
    edit, gate = gates.edit, gated.gate
    whole = edit.shape(block.x)
    at = _cursor(edit.before(backward.nodes[0], layer=block.layer, forward=gated.combine))
    first = edit.nodes.index(backward.nodes[0])
    with at.frame(backward.dy):
        dy = aten.index_select(at, backward.dy, 0, gate.index)
        _replace(backward.nodes, {block.x: gated.taken, backward.dy: dy})
        edit.resize([*block.forward, *backward.nodes], {_batch(edit, block): symbol(name)})
        change = aten.pointwise(at, "sub.Tensor", block.y, gated.taken, attrs={"alpha": 1})
        at.drop(change)
        aten.pointwise_(at, "mul_.Tensor", change, dy)
        change = aten.reduce(at, "sum.dim_IntList", change, (1, 2, 3))
        dmask = _zeros(at, (whole[0],), backward.dy)
        at.call("aten::index_copy_", [dmask, gate.index, change], [dmask], {"dim": 0}, mutates=[dmask])
        dx = at.result(whole, "float32")
        at.call("aten::index_fill.int_Scalar", [backward.dy, gate.index], [dx], {"dim": 0, "value": 0})
    at.forward = None
    gate.mask_grad = aten.pointwise(at, "add.Tensor", gate.mask_grad, dmask, attrs={"alpha": 1})
    at = _cursor(edit.after(backward.nodes[-1], layer=block.layer, forward=gated.select))
    if backward.dx is not None:
        made = dy if backward.dx == backward.dy else backward.dx
        scattered = _zeros(at, whole, made)
        at.call("aten::index_copy_", [scattered, gate.index, made], [scattered], {"dim": 0}, mutates=[scattered])
        at.forward = None
        aten.pointwise_(at, "add_.Tensor", dx, scattered, alpha=1)
        own = {gated.select, gated.combine}  # the latter's gradient still takes dy, which may be dx as it was
        later = [m for m in edit.nodes[first:] if m not in backward.nodes and m.forward not in own]
        _replace(later, {backward.dx: dx})
    gradient = gates.backward(at, place, gate)
    at.forward = None
    if backward.dx is not None:
        aten.pointwise_(at, "add_.Tensor", dx, gradient, alpha=1)
    return dx


def _zeros(at: Cursor, shape: tuple[Extent, ...], like: int) -> int:
    out = at.result(shape, "float32")
    at.call("aten::new_zeros", [like], [out], {"size": shape})
    return out


def _replace(nodes: list[Node] | tuple[Node, ...], tensors: dict[int, int]) -> None:
    for node in nodes:
        node.inputs, node.outputs, node.mutates, node.saved = (
            tuple(tensors.get(t, t) for t in ids) for ids in (node.inputs, node.outputs, node.mutates, node.saved)
        )


def _penalise(edit: Edit, gates: list[Gate], weight: float) -> None:
    """Add weight * sum of each mask to the loss, and what makes the gradient of each mask from it."""
    seed = next(n for n in edit.nodes if n.phase == "backward")
    if seed.kind != "ones_like":
        raise TrainwattError(f"backward begins with {seed.kind!r}; slu knows a step that begins with one loss")
    (base,) = seed.inputs
    loss, nodes = base, []
    at = _cursor(edit.after([n for n in edit.nodes if n.phase == "loss"][-1]))
    for gate in gates:
        total = at.result((), "float32")
        summed = at.call("aten::sum", [gate.mask], [total], {"dtype": None})
        loss = aten.pointwise(at, "add.Tensor", loss, total, attrs={"alpha": weight})
        nodes.append((gate, summed, at.last))
    for gate in gates:
        edit.hold(gate.mask, at.last)
    for until in edit.holders(edit.tensors[base].storage):
        edit.hold(loss, until)
    edit.release_storage(edit.tensors[base].storage)
    seed.inputs = (loss,)
    at = _cursor(edit.after(seed, layer=LOSS_LAYER))
    for gate, summed, added in reversed(nodes):
        at.forward = added
        scaled = aten.pointwise(at, "mul.Scalar", seed.outputs[0], attrs={"other": weight})
        at.forward = summed
        gate.mask_grad = aten.expand(at, scaled, edit.shape(gate.mask))
