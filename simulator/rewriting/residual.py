"""Residual blocks of a step: modules that add their own input to what they make of it."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.errors import TrainwattError
from simulator.graph import ROOT_LAYER
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


@dataclass(frozen=True, eq=False)
class ResidualBlock:
    """A residual block, the module `layer`: what it runs forward, from its input `x` to its output `y` of the same
    shape (tensors of images (N, C, H, W)).
    """

    layer: str
    forward: tuple[Node, ...]
    x: int
    y: int


@dataclass(frozen=True, eq=False)
class BlockBackward:
    """The backward ops of a residual block, sums of gradients within it included: from `dy` to `dx`.

    `dx` is None where the gradient goes no further. A sum in place may make `dx` and `dy` the same tensor.
    """

    nodes: tuple[Node, ...]
    dy: int
    dx: int | None


def residual_blocks(edit: Edit) -> list[ResidualBlock]:
    """Return the residual blocks of the forward pass in execution order.

    A residual block is a module that runs once, takes one batch of images, adds it unchanged to something it computes,
    and returns images of the same shape. Of blocks within blocks it is the inner ones.
    """
    forward = [n for n in edit.nodes if n.phase == "forward"]
    layers = dict.fromkeys(n.layer for n in forward if n.kind in ("add", "add_") and n.layer not in ("", ROOT_LAYER))
    blocks = [block for layer in layers if (block := _block(edit, forward, layer))]
    blocks = [b for b in blocks if not any(other.layer.startswith(b.layer + ".") for other in blocks)]
    place = {node: i for i, node in enumerate(forward)}
    return sorted(blocks, key=lambda block: place[block.forward[0]])


def _block(edit: Edit, forward: list[Node], layer: str) -> ResidualBlock | None:
    """Return the block that the module `layer` is, None where it is none."""
    places = [i for i, n in enumerate(forward) if n.layer == layer or n.layer.startswith(layer + ".")]
    if places[-1] - places[0] >= len(places):
        return None  # something else runs in between: it is called more than once
    nodes = forward[places[0] : places[-1] + 1]
    made = {t for n in nodes for t in n.outputs}
    inside = {edit.tensors[t].storage for t in made}
    taken = {t for n in nodes for t in n.inputs if t not in made and not _lasting(edit, t)}
    rest = [*forward[: places[0]], *forward[places[-1] + 1 :], *(n for n in edit.nodes if n.phase == "loss")]
    given = {t for n in rest for t in n.inputs if t in made and not _lasting(edit, t)}
    if len(taken) != 1 or len(given) != 1:
        return None
    (x,), (y,) = taken, given
    if len(edit.shape(x)) != 4 or edit.shape(x) != edit.shape(y) or edit.tensors[x].storage in inside:
        return None
    if not any(_adds(edit, n, x) for n in nodes if n.layer == layer):
        return None
    return ResidualBlock(layer, tuple(nodes), x, y)


def _adds(edit: Edit, node: Node, x: int) -> bool:
    return (
        node.kind in ("add", "add_")
        and len(node.inputs) == 2
        and node.inputs.count(x) == 1
        and edit.shape(node.inputs[0]) == edit.shape(node.inputs[1])
    )


def _lasting(edit: Edit, tensor: int) -> bool:
    """Tell whether a tensor is a parameter, a buffer or a like, which no op of the step makes."""
    storage = edit.storages[edit.tensors[tensor].storage]
    return storage.role in ("parameter", "buffer", "optimizer-state")


def block_backward(edit: Edit, block: ResidualBlock) -> BlockBackward:
    """Return what differentiates `block`.

    Raises `TrainwattError` where no gradient comes back through it, or gradients of other places are mixed into it.
    """
    ops = set(block.forward)
    within = {t for n in block.forward for t in n.outputs} | {block.x}
    nodes = [n for n in edit.nodes if n.forward in ops]
    if not nodes:
        raise TrainwattError(f"no gradient passes {block.layer!r}; apply slu before what freezes it")
    made = {t for n in nodes for t in n.outputs}
    coming = {t for n in nodes for t in n.inputs if t not in made | within and not _lasting(edit, t)}
    if len(coming) != 1:
        raise TrainwattError(
            f"{len(coming)} gradients enter {block.layer!r}; apply slu before what changes its backward"
        )
    (dy,) = coming
    members = set(nodes)
    first = edit.nodes.index(nodes[0])
    for node in edit.nodes[first:]:  # sums by the engine differentiate nothing, so they are known by their operands
        if node.phase == "backward" and node.forward is None and node.kind in ("add", "add_"):
            inside = [t in made or t == dy for t in node.inputs]
            if all(inside):
                members.add(node)
                made.update(node.outputs)
    nodes = [n for n in edit.nodes if n in members]
    later = [n for n in edit.nodes[first:] if n not in members and n.phase == "backward"]
    leaving = {t for n in later for t in n.inputs if t in made}
    if len(leaving) > 1:
        raise TrainwattError(
            f"{len(leaving)} gradients leave {block.layer!r}, whose input is used elsewhere, too, or whose backward "
            "was changed; apply slu before what changes it"
        )
    return BlockBackward(tuple(nodes), dy, leaving.pop() if leaving else None)
