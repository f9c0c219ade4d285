"""Choosing instances of a mini-batch: passes that score all of them, and steps that run on some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from simulator.errors import TrainwattError
from simulator.extent import Extent, substitute, symbol
from simulator.graph import ITEM_BYTES, Graph, Tensor
from simulator.rewriting import aten
from simulator.rewriting.compose import without_gradients
from simulator.rewriting.copies import copied
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.rewriting.shapes import numel

_LOSSES = ("nll_loss_forward", "nll_loss2d_forward", "mse_loss")
"""Losses that have a form without reduction: one value an instance (and position)."""


def refuse_split(graph: Graph, technique: str) -> None:
    """Raise `TrainwattError` where `technique` cannot choose among the instances of a mini-batch of `graph`."""
    if graph.meta.get("accumulate", 1) != 1:
        raise TrainwattError(f"{technique} on a step of several micro-batches; apply it to a step with accumulate=1")
    if graph.batch > 1 and (fixed := graph.meta.get("fixed_batch")):
        raise TrainwattError(f"{technique} on a graph of fixed batch {graph.batch} ({fixed}); trace it again")
    if graph.shares:
        raise TrainwattError(
            f"{technique} on a step whose instances already go different ways ({', '.join(graph.shares)}); "
            "apply it first"
        )


def loss_op(nodes: Iterable[Node], technique: str) -> Node:
    """Return the op that takes the mean over the instances of a step; raises `TrainwattError` unless there is one."""
    found = [node for node in nodes if node.phase == "loss" and node.kind in _LOSSES]
    if len(found) != 1:
        raise TrainwattError(
            f"{technique} on a step of {len(found)} losses that exist for single instances; "
            "train with one cross-entropy or mse"
        )
    return found[0]


@dataclass(frozen=True)
class Scoring:
    """A forward pass without gradients that ends with the loss of each instance.

    `nodes` are its ops, `losses` a tensor (batch,).
    """

    nodes: Sequence[Node]
    losses: int


def score(edit: Edit, nodes: Sequence[Node], before: Node, technique: str) -> Scoring:
    """Add the forward pass among `nodes` once more before node `before`, without gradients, up to losses (batch,).

    It runs as a function that returns only the losses.
    """
    mean = loss_op(nodes, technique)
    return _scored(edit, [n for n in nodes if n.phase == "forward"] + _leading_to(nodes, mean), mean, before)


def score_outputs(edit: Edit, nodes: Sequence[Node], technique: str) -> Scoring:
    """Add losses (batch,) of the outputs that the step `nodes` computes, without gradients, before its own loss."""
    mean = loss_op(nodes, technique)
    return _scored(edit, _leading_to(nodes, mean), mean, next(n for n in nodes if n.phase == "loss"))


def _scored(edit: Edit, passed: Sequence[Node], mean: Node, before: Node) -> Scoring:
    copies = copied(edit, passed)
    made = without_gradients([copies.nodes[node] for node in passed])
    place = edit.nodes.index(before)
    edit.nodes[place:place] = made
    losses = per_instance(edit, copies.nodes[mean])
    if len(edit.shape(losses)) > 1:
        at = edit.before(before, phase=mean.phase, layer=mean.layer)
        at.runs = mean.runs
        losses = mean_of_each(at, losses)
        made = edit.nodes[place : edit.nodes.index(before)]
    for old, new in copies.storages.items():
        # What the step's own variables keep until backward is done, this function's keep until its end.
        if any(holder not in copies.nodes for holder in edit.holders(old)) and new != edit.tensors[losses].storage:
            edit.hold_storage(new, made[-1])
    return Scoring(made, losses)


def per_instance(edit: Edit, node: Node) -> int:
    """Let a loss without reduction take the place of the mean `node`; returns the losses, (batch, ...)."""
    out = node.outputs[0]
    shape = edit.shape(node.inputs[0 if node.kind == "mse_loss" else 1])
    layout = edit.layout(shape, edit.tensors[out].dtype)
    number = edit.tensors[out].storage
    edit.tensors[out] = Tensor(layout, number)
    edit.storages[number] = replace(edit.storages[number], size_bytes=numel(shape) * ITEM_BYTES[layout.dtype])
    node.attrs = MappingProxyType({**node.attrs, "reduction": 0})
    return out


def mean_of_each(at: Cursor, losses: int) -> int:
    """Add the mean over everything but the first dimension; returns (batch,)."""
    first, *rest = at.edit.shape(losses)
    flat = aten.view(at, losses, (first, numel(rest)))
    return aten.reduce(at, "mean.dim", flat, [1])


def _leading_to(nodes: Sequence[Node], end: Node) -> list[Node]:
    """Return the ops of the loss that `end` needs, and `end`, in order."""
    wanted, found = set(end.inputs), [end]
    for node in reversed(nodes[: nodes.index(end)]):
        if node.phase == "loss" and wanted.intersection(node.outputs):
            found.append(node)
            wanted.update(node.inputs)
    return found[::-1]


def presented(edit: Edit, graph: Graph, nodes: Iterable[Node]) -> dict[int, int]:
    """Return the tensor of each input and target that `nodes` take, by its storage; raises `TrainwattError` where
    its first dimension is not the batch.
    """
    used = {edit.tensors[t].storage for node in nodes for t in node.inputs}
    found: dict[int, int] = {}
    for number, tensor in enumerate(edit.tensors):  # the first tensor in an input's storage is the input itself
        if tensor.storage in used and edit.storages[tensor.storage].role == "input":
            found.setdefault(tensor.storage, number)
    for storage, number in found.items():
        shape = edit.shape(number)
        if not shape or (shape[0] != symbol("batch") and not graph.batch == shape[0] == 1):
            name = edit.storages[storage].name
            raise TrainwattError(f"{name} of shape {tuple(map(str, shape))}; instances are chosen along its first axis")
    return dict(sorted(found.items()))


def select(at: Cursor, sources: Mapping[int, int], index: int) -> dict[int, int]:
    """Add the choice of the instances `index` of each of `sources`; returns the new tensors by the old storages."""
    return {storage: aten.index_select(at, tensor, 0, index) for storage, tensor in sources.items()}


def run_on(edit: Edit, nodes: Sequence[Node], taken: Mapping[int, int], instances: Extent) -> None:
    """Let `nodes`, a step on the whole batch, run on `instances` of it: the tensors `taken` for their inputs."""
    values = {"batch": instances}
    edit.resize(nodes, values)
    used = {edit.tensors[t].storage for node in nodes for t in node.tensors}
    # Views of what is there before the step may have the batch in them, too: a parameter expanded to it.
    elsewhere = {storage: storage for storage in used if edit.storages[storage].born < 0}
    elsewhere.update({storage: edit.tensors[tensor].storage for storage, tensor in taken.items()})
    redirect(edit, nodes, elsewhere, values)


def redirect(edit: Edit, nodes: Iterable[Node], storages: Mapping[int, int], values: Mapping[str, Extent]) -> None:
    """Let `nodes` see the views they have of some storages in others, with dimensions replaced by `values`."""
    views: dict[int, int] = {}

    def moved(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([seen(t) for t in ids])

    def seen(number: int) -> int:
        tensor = edit.tensors[number]
        if tensor.storage not in storages:
            return number
        if number not in views:
            shape, stride = ([substitute(e, values) for e in part] for part in (tensor.shape, tensor.layout.stride))
            layout = edit.layout(shape, tensor.dtype, stride)
            view = Tensor(layout, storages[tensor.storage], substitute(tensor.offset, values))
            views[number] = number if view == tensor else len(edit.tensors)
            if view != tensor:
                edit.tensors.append(view)
        return views[number]

    for node in nodes:
        node.inputs, node.outputs, node.mutates, node.saved = map(
            moved, (node.inputs, node.outputs, node.mutates, node.saved)
        )


def unused(graph: Graph, name: str) -> str:
    """Return a name for a new dimension of `graph`: `name`, with a number where there is one called so."""
    return next(n for n in (name, *(f"{name}{i}" for i in range(2, len(graph.sizes) + 3))) if n not in graph.sizes)
