"""Repeating a piece of a step: its ops once more, over storages of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


@dataclass(frozen=True)
class Copies:
    """What `copied` made: for each node, tensor and storage of the original, its copy."""

    nodes: Mapping[Node, Node]
    tensors: Mapping[int, int]
    storages: Mapping[int, int]

    def node(self, original: Node) -> Node:
        """Return the copy of a node, or the node itself where it was not copied."""
        return self.nodes.get(original, original)

    def tensor(self, original: int) -> int:
        """Return the copy of a tensor, or the tensor itself where its storage was not copied."""
        return self.tensors.get(original, original)


def copied(edit: Edit, nodes: Sequence[Node]) -> Copies:
    """Return copies of `nodes` that make storages of their own and take everything else from where the originals do.

    Forward links among the nodes, and what the program holds until one of them, carry over. The copies are in no
    order yet: the caller puts them into `edit.nodes`.
    """
    storages: dict[int, int] = {}
    for storage in sorted(made_by(edit, nodes)):
        storages[storage] = len(edit.storages)
        edit.storages.append(edit.storages[storage])
    tensors: dict[int, int] = {}
    for number in sorted({t for node in nodes for t in (*node.tensors, *node.saved)}):
        tensor = edit.tensors[number]
        if tensor.storage in storages:
            tensors[number] = len(edit.tensors)
            edit.tensors.append(replace(tensor, storage=storages[tensor.storage]))

    def moved(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([tensors.get(t, t) for t in ids])

    twins: dict[Node, Node] = {}
    for node in nodes:
        twins[node] = replace(
            node,
            inputs=moved(node.inputs),
            outputs=moved(node.outputs),
            mutates=moved(node.mutates),
            saved=moved(node.saved),
            forward=None if node.forward is None else twins.get(node.forward, node.forward),
        )
    for old, new in storages.items():
        for holder in edit.holders(old):
            if holder in twins:
                edit.hold_storage(new, twins[holder])
    return Copies(twins, tensors, storages)


def made_by(edit: Edit, nodes: Sequence[Node]) -> set[int]:
    """Return the storages that consecutive `nodes` allocate: not those they take from elsewhere, view or write into."""
    made: set[int] = set()
    taken: set[int] = set()
    for node in nodes:
        taken.update({edit.tensors[t].storage for t in (*node.inputs, *node.mutates)} - made)
        made.update({edit.tensors[t].storage for t in node.outputs} - taken)
    return {s for s in made if edit.storages[s].born >= 0}
