"""Running a piece of the forward pass again in backward, as PyTorch's non-reentrant checkpoint does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simulator.errors import TrainwattError
from simulator.rewriting.copies import copied, made_by
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


def recompute_region(edit: Edit, region: Sequence[Node], name: str) -> None:
    """Let consecutive forward ops keep nothing but what they take from outside, and run again when backward needs them.

    They run again before the first backward op that looks at something they saved, up to the last op that saves
    something. What a forward op has `saved` is then made in backward, and let go when the op's gradient is done.
    Raises `TrainwattError` where an op of the region `name` changes in place what comes from outside. A region that
    saves nothing stays as it is.
    """
    saving = [node for node in region if node.saved]
    if not saving:
        return
    taken = _taken(edit, region, made_by(edit, region))
    for node in region:
        for tensor in node.mutates:
            if edit.tensors[tensor].storage in {edit.tensors[t].storage for t in taken}:
                raise TrainwattError(
                    f"recompute of {name}, whose {node.layer} changes its input in place; start the segment elsewhere"
                )
    inside = set(region)
    due = next((n for n in edit.nodes if n.phase == "backward" and n.forward in inside and n.forward.saved), None)
    if due is None:
        return
    again = list(region[: region.index(saving[-1]) + _saves_result(saving[-1])])
    saved = {node: node.saved for node in saving}
    for node in region:
        node.saved = ()
    copies = copied(edit, again)
    ran = [copies.node(node) for node in again]
    for node in ran:
        node.phase, node.forward = "backward", due.forward
    for old, new in copies.storages.items():
        edit.storages[new] = replace(edit.storages[new], role="temporary")
        if any(holder not in copies.nodes for holder in edit.holders(old)):
            edit.hold_storage(new, ran[-1])  # a variable of a caller, or of a function that did not come to its end
    _forget(edit, region, inside)
    for node in edit.nodes:
        if node.phase == "backward" and node.forward in inside:
            node.inputs = tuple([copies.tensor(t) for t in node.inputs])
    for node in saving:  # what its gradient takes apart, and what each of their autograd nodes keeps to run from
        remade = [copies.tensor(t) for t in saved[node] if copies.tensor(t) != t]
        node.saved = (*taken, *remade)
    at = edit.nodes.index(due)
    edit.nodes[at:at] = ran


def _forget(edit: Edit, region: Sequence[Node], inside: set[Node]) -> None:
    """Take back that autograd's own nodes keep something of a region beside what they save: that is run again too."""
    for storage in made_by(edit, region):
        holders = edit.holders(storage)
        edit.release_storage(storage)
        for holder in holders:
            own = holder.phase == "backward" and holder.forward in inside
            edit.hold_storage(storage, region[-1] if own else holder)


def _taken(edit: Edit, region: Sequence[Node], made: set[int]) -> list[int]:
    """Return the activations and inputs that a region takes from outside, in order, each storage once."""
    taken: dict[int, int] = {}
    for node in region:
        for tensor in node.inputs:
            storage = edit.tensors[tensor].storage
            if storage not in made and edit.storages[storage].role not in ("parameter", "buffer"):
                taken.setdefault(storage, tensor)
    return list(taken.values())


def _saves_result(node: Node) -> bool:
    """Tell whether an op saves one of its results, which it must run for; operands are saved before it runs."""
    return any(tensor in node.outputs for tensor in node.saved)
