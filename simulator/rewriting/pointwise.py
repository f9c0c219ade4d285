"""Chains of ops over the same elements as one op, as compilers for inference make one kernel of them.

    c = f(a, b), d = g(c, e), c taken by g alone   =>   d = g(f(a, b), e), which reads a, b, e once and writes d

TensorRT calls this PointWise fusion [NVIDIA, TensorRT Developer Guide, "Types of Fusions"].
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.rules.elementwise import KINDS

POINTWISE = frozenset(KINDS) | {"add", "add_", "sub", "sub_"}


def fuse_pointwise(edit: Edit, results: set[int]) -> None:
    """Let each op over elements that alone takes the result of another one, of the same shape, be one with it.

    The fused op has the kind, and thereby the FLOPs, of the last of them with other operands. What is among `results`
    is left alone.
    """
    for node in list(edit.nodes):
        while node.kind in POINTWISE and (maker := _maker(edit, node, results)) is not None:
            _join(edit, maker, node)


def _maker(edit: Edit, node: Node, results: set[int]) -> Node | None:
    """Return an op over elements whose result `node` alone takes, None where there is none."""
    at = edit.nodes.index(node)
    for tensor in sorted(set(node.inputs) - results):
        storage = _storages(edit, (tensor,))
        maker = next((n for n in reversed(edit.nodes[:at]) if storage & _storages(edit, n.tensors)), None)
        if maker is None or maker.kind not in POINTWISE or maker.outputs != (tensor,):
            continue
        between, after = edit.nodes[edit.nodes.index(maker) + 1 : at], edit.nodes[at + 1 :]
        taken = tensor not in node.mutates and any(storage & _storages(edit, n.inputs) for n in after)
        changed = any(_storages(edit, maker.inputs) & _storages(edit, n.mutates) for n in between)
        if not taken and not changed and edit.shape(tensor) == edit.shape(node.outputs[0]):
            return maker
    return None


def _storages(edit: Edit, tensors: Iterable[int]) -> set[int]:
    return {edit.tensors[t].storage for t in tensors}


def _join(edit: Edit, maker: Node, node: Node) -> None:
    """Let `node` do what `maker` did too."""
    made = maker.outputs[0]
    others = tuple(t for t in node.inputs if t != made)
    if not others:
        node.kind, node.name, node.layer, node.attrs = maker.kind, maker.name, maker.layer, maker.attrs
    node.inputs = tuple(dict.fromkeys((*maker.inputs, *others)))
    if made in node.mutates:
        node.mutates = maker.mutates
    if not node.mutates:
        node.kind, node.name = node.kind.removesuffix("_"), node.name.removesuffix("_")
    edit.remove(maker)
