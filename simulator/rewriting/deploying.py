"""What a runtime for inference executes of a network: its forward pass without what it folds, merges, fuses or drops.

    deployed = live(fused(merged(without zeros(folded(forward)))))

folded: a batch norm goes into the weights of the convolution before it. fused: a ReLU that alone takes the result of a
convolution is part of it. live: what leads to no output of the network does not run. Products with zero, as in cells
of an architecture search whose edge is `none`, equal ops and chains of ops over the same elements are what runtimes
differ in (`Runtime`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from simulator.graph import Graph, Storage
from simulator.rewriting.compose import forward_only
from simulator.rewriting.edit import Edit
from simulator.rewriting.folding import fold, folds, fuse_activation
from simulator.rewriting.node import Node
from simulator.rewriting.pointwise import fuse_pointwise

ORDERLESS = frozenset({"add", "mul"})
"""Kinds of ops whose operands may change places."""


@dataclass(frozen=True)
class Runtime:
    """What a runtime does with a graph before it runs it.

    `zeros` is what becomes of a product with zero. "run": it is executed, and so is all that it takes. "constant": it
    is a constant, and sums of constants run. "drop": it is a constant, and sums with zero are none. "scale": as "drop",
    but where only such products take the result of a convolution, zero goes into the weights: the convolution runs, and
    its result is added. Any other op on a constant runs. Except with "constant", 0 + x is x.

    `merges`: ops of one kind with the same operands and attributes are executed once.

    `chains`: ops over elements of which one alone takes the result of the other are one (`pointwise`), as in TensorRT.
    """

    zeros: Literal["run", "constant", "drop", "scale"] = "drop"
    merges: bool = True
    chains: bool = False


def deployed(graph: Graph, runtime: Runtime, zero: str = "") -> Graph:
    """Return what `runtime` executes of the network of `graph`, a step traced with batch norm in eval mode.

    `zero` is a pattern (whole name) of layers in which a product or a sum of one operand is one with zero, as `sum` of
    Python begins with 0 + x: a graph holds no values, so it cannot tell.
    """
    other = graph.other
    if isinstance(other, Graph):
        other = deployed(other, runtime, zero)
    edit = Edit(forward_only(graph))
    biases: dict[int, int] = {}
    for pair in folds(edit):
        weight = edit.tensors[pair.convolution.inputs[1]].storage
        biases[weight] = fold(edit, pair, biases.get(weight))
    results = _results(edit)
    if zero:
        _without_zeros(edit, runtime, re.compile(zero), results)
    if runtime.merges:
        _merge(edit, results)
    for node in [n for n in edit.nodes if n.kind == "convolution"]:
        fuse_activation(edit, node)
    _live(edit, results)
    if runtime.chains:
        fuse_pointwise(edit, results)
    return replace(edit.graph(), other=other)


def _results(edit: Edit) -> set[int]:
    """Return the tensors of ops of which nothing takes anything: what the network returns."""
    taken = {edit.tensors[t].storage for n in edit.nodes for t in n.inputs}
    found: set[int] = set()
    for node in edit.nodes:
        if node.outputs and not taken & {edit.tensors[t].storage for t in node.outputs}:
            found.update(node.outputs)
    return found


def _replace(edit: Edit, results: set[int], node: Node, new: tuple[int, ...]) -> None:
    """Take `node` out and let `new` be what it made."""
    for old, other in zip(node.outputs, new, strict=True):
        edit.substitute(old, other)
        if old in results:
            results.remove(old)
            results.add(other)
    edit.remove(node)


def _without_zeros(edit: Edit, runtime: Runtime, zero: re.Pattern[str], results: set[int]) -> None:
    constants: set[int] = set()
    makers = {node.outputs[0]: node for node in edit.nodes if node.outputs}

    def with_zero(node: Node, kind: str) -> bool:
        return node.kind == kind and len(node.inputs) == 1 and zero.fullmatch(node.layer) is not None

    def scales(tensor: int) -> bool:
        maker, takers = makers.get(tensor), [n for n in edit.nodes if tensor in n.inputs]
        is_convolution = maker is not None and maker.kind == "convolution"
        return is_convolution and all(with_zero(n, "mul") for n in takers)

    for node in list(edit.nodes):
        rest = tuple(t for t in node.inputs if t not in constants)
        if with_zero(node, "mul") and runtime.zeros != "run":
            if runtime.zeros == "scale" and scales(node.inputs[0]):
                _replace(edit, results, node, node.inputs)
                continue
        elif node.kind != "add" or runtime.zeros == "constant" or (rest == node.inputs and not with_zero(node, "add")):
            continue
        elif rest:
            _replace(edit, results, node, rest)
            continue
        constants.update(node.outputs)
        edit.remove(node)
        for tensor in node.outputs:
            number = edit.tensors[tensor].storage
            edit.storages[number] = Storage(edit.storages[number].size_bytes, "buffer", -1, None, f"{node.layer}.zero")


def _merge(edit: Edit, results: set[int]) -> None:
    """Let ops that compute the same be one: the first of them."""
    changed = {edit.tensors[t].storage for n in edit.nodes for t in n.mutates}
    seen: dict[object, Node] = {}
    for node in list(edit.nodes):
        touched = {edit.tensors[t].storage for t in node.tensors}
        if not node.inputs or touched & changed or "dropout" in node.kind:
            continue
        inputs = tuple(sorted(node.inputs)) if node.kind in ORDERLESS else node.inputs
        first = seen.setdefault((node.kind, inputs, tuple(sorted(node.attrs.items(), key=lambda i: i[0]))), node)
        if first is not node and len(first.outputs) == len(node.outputs):
            _replace(edit, results, node, first.outputs)


def _live(edit: Edit, results: set[int]) -> None:
    """Take out what leads to no result."""
    wanted = {edit.tensors[t].storage for t in results}
    kept: set[Node] = set()
    for node in reversed(edit.nodes):
        if wanted & {edit.tensors[t].storage for t in (*node.outputs, *node.mutates)}:
            kept.add(node)
            wanted.update(edit.tensors[t].storage for t in node.inputs)
    edit.keep(kept.__contains__)
    used = {edit.tensors[t].storage for n in edit.nodes for t in n.tensors}
    for number, storage in enumerate(edit.storages):
        if storage.role in ("parameter", "buffer") and number not in used:
            edit.storages[number] = replace(storage, role="temporary", name="")
