"""Putting training steps together: passes without gradients, and the step of one network inside that of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from simulator.graph import LOSS_LAYER, ROOT_LAYER, Graph
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node

_NONE: Mapping[str, int] = MappingProxyType({})


def forward_only(graph: Graph) -> Graph:
    """Return the forward pass of a training step, run without gradients (`torch.no_grad`).

    Loss, backward and optimizer are gone, nothing is saved, and what no op uses any more is freed.
    """
    edit = Edit(graph)
    kept = set(without_gradients([node for node in edit.nodes if node.phase == "forward"]))
    edit.keep(kept.__contains__)
    return edit.graph()


def without_gradients(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes of a forward pass as they run without gradients: none saves, or copies only to save."""
    nodes = list(nodes)
    used = {t for node in nodes for t in node.inputs}
    saved = {t for node in nodes for t in node.saved}
    for node in nodes:
        node.saved = ()
    # An op in place whose gradient needs what it overwrites is preceded by a copy, made only to be saved.
    return [n for n in nodes if n.kind != "clone" or used.intersection(n.outputs) or not saved.issuperset(n.outputs)]


@dataclass(frozen=True)
class Brought:
    """What `bring` added to an edit: the nodes in order, and the numbers that the graph's storages have there."""

    nodes: Sequence[Node]
    storages: Mapping[int, int]


def bring(edit: Edit, graph: Graph, prefix: str = "", inputs: Mapping[str, int] = _NONE) -> Brought:
    """Add the tensors and storages of `graph` to `edit` and return its nodes, for the caller to put in their place.

    The network of `graph` gets the name `prefix` (the same network keeps its own): layers and parameters carry it.
    A parameter or buffer that `edit` has already, by that name, is shared. `inputs` are storages of `edit` by the names
    of the inputs (`input0`, `target0`) whose place they take.
    """
    present: dict[tuple[str, str], int] = {
        (s.role, s.name): i for i, s in enumerate(edit.storages) if s.role in ("parameter", "buffer")
    }
    used = {graph.tensors[t].storage for op in graph.ops for t in (*op.inputs, *op.outputs, *op.mutates, *op.saved)}
    storages = {}
    for i, storage in enumerate(graph.storages):
        if i not in used and storage.role not in ("parameter", "buffer"):
            continue
        name = f"{prefix}.{storage.name}" if prefix and storage.name and storage.role != "input" else storage.name
        number = inputs.get(name) if storage.role == "input" else present.get((storage.role, name))
        if number is None:
            number = len(edit.storages)
            edit.storages.append(replace(storage, name=name))
        storages[i] = number
    tensors = {}
    for i, tensor in enumerate(graph.tensors):
        if tensor.storage in storages:
            tensors[i] = len(edit.tensors)
            edit.tensors.append(replace(tensor, storage=storages[tensor.storage]))

    def moved(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([tensors[t] for t in ids])

    nodes: list[Node] = []
    for op in graph.ops:
        nodes.append(
            Node(
                op.name,
                op.kind,
                op.phase,
                _layer(op.layer, prefix),
                moved(op.inputs),
                moved(op.outputs),
                moved(op.mutates),
                moved(op.saved),
                op.attrs,
                None if op.forward is None else nodes[op.forward],
                op.runs,
            )
        )
    for i, number in storages.items():
        if graph.storages[i].held >= 0:
            edit.hold_storage(number, nodes[graph.storages[i].held])
    return Brought(nodes, storages)


def _layer(layer: str, prefix: str) -> str:
    if not prefix or layer in ("", LOSS_LAYER):
        return layer
    return prefix if layer == ROOT_LAYER else f"{prefix}.{layer}"
