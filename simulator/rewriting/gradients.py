"""Handing a gradient that is computed in another way to the ops that use it, as PyTorch's autograd does."""

from __future__ import annotations

from dataclasses import replace

from simulator.rewriting import aten
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


def deliver(edit: Edit, part: Node, new: int, *, as_is: bool = False) -> None:
    """Let tensor `new`, computed just before `part`, take the place of the result of the backward op `part`.

    A fresh tensor laid out like the old one simply takes its place. A view does not belong to the engine, so what would
    be added into it in place is added out of place (torch/csrc/autograd/input_buffer.cpp), and a parameter's gradient
    that is expanded is copied to a dense one (torch/csrc/autograd/functions/accumulate_grad.h) unless it is to stay
    `as_is`. `part` is still there and is the caller's to remove.
    """
    (old,) = part.outputs
    for node in edit.holders(edit.tensors[old].storage):
        edit.hold(new, node)
    view = _is_view(edit, new)
    summed = _first_sum(edit, part, old) if view else None
    if summed is not None:
        summed.name, summed.kind, summed.mutates = "aten::add.Tensor", "add", ()
        summed.inputs = (new, *summed.inputs[1:])
        _replace(edit, edit.nodes[edit.nodes.index(part) + 1 : edit.nodes.index(summed)], old, new)
        return
    storage = edit.storages[edit.tensors[old].storage]
    if edit.tensors[new].layout == edit.tensors[old].layout:
        _take_place(edit, old, new)
    elif storage.role == "gradient" and not as_is:
        at = edit.after(_last_of_node(edit, part), layer=part.layer)
        at.runs = part.runs
        layout = edit.tensors[old].layout
        at.call("aten::new_empty_strided", [new], [old], {"size": layout.shape, "stride": layout.stride})
        aten.pointwise_(at, "copy_", old, new)
        _hold_longer(edit, part, at.last)
    else:
        if storage.role == "gradient":
            place = edit.tensors[new].storage
            edit.storages[place] = replace(edit.storages[place], role="gradient", name=storage.name, died=None)
        _replace(edit, edit.nodes[edit.nodes.index(part) + 1 :], old, new)


def _last_of_node(edit: Edit, part: Node) -> Node:
    """Return the last op before the gradients of parameters are accumulated: the engine first sums the others."""
    last = part
    for node in edit.nodes[edit.nodes.index(part) + 1 :]:
        sums = node.kind in ("add", "add_") and node.forward is None and node.phase == "backward"
        if node.forward is not part.forward and not (sums and _role(edit, node.outputs[0]) != "gradient"):
            break
        last = node
    return last


def _hold_longer(edit: Edit, part: Node, last: Node) -> None:
    """Let what the program holds until the node of `part` is done be held until `last`, which now ends it."""
    ends = {n for n in edit.nodes if n.forward is part.forward and n.name == part.name}
    for storage in range(len(edit.storages)):
        if ends.intersection(edit.holders(storage)):
            edit.hold_storage(storage, last)


def _role(edit: Edit, tensor: int) -> str:
    return edit.storages[edit.tensors[tensor].storage].role


def _is_view(edit: Edit, tensor: int) -> bool:
    """Tell whether autograd sees a view: made by a view op other than `_unsafe_view`."""
    maker = _maker(edit, tensor)
    own = {edit.tensors[t].storage for t in maker.inputs}
    return edit.tensors[tensor].storage in own and maker.kind != "_unsafe_view"


def _maker(edit: Edit, tensor: int) -> Node:
    return next(node for node in reversed(edit.nodes) if tensor in node.outputs)


def _first_sum(edit: Edit, part: Node, old: int) -> Node | None:
    """Return the op that adds another gradient into `old` in place, in the same backward pass; None if none does."""
    for node in edit.nodes[edit.nodes.index(part) + 1 :]:
        if node.phase != "backward":
            return None
        if node.kind == "add_" and node.forward is None and node.inputs[0] == old:
            return node
    return None


def _take_place(edit: Edit, old: int, new: int) -> None:
    """Let the op that makes `new` make `old`, in the storage of `old`."""
    maker = _maker(edit, new)
    maker.outputs = tuple(old if t == new else t for t in maker.outputs)
    place, target = edit.tensors[new].storage, edit.tensors[old].storage
    for number, tensor in enumerate(edit.tensors):
        if tensor.storage == place:
            edit.tensors[number] = replace(tensor, storage=target)


def _replace(edit: Edit, users: list[Node], old: int, new: int) -> None:
    """Let `users` of `old` use `new`, laid out otherwise; a view other than a slice is of a copy.

    PyTorch copies only where the view cannot be had of the new layout, so this counts a copy too many at times.
    """
    place = edit.tensors[old].storage
    for node in users:
        if old not in node.inputs:
            continue
        viewed = not node.mutates and any(edit.tensors[t].storage == place for t in node.outputs)
        if viewed and node.kind != "slice":
            at = edit.before(node, forward=node.forward)
            at.runs = node.runs
            at.call("aten::clone", [new], [old], {"memory_format": "contiguous_format"})
            continue
        if old in node.mutates:  # what is added into it in place makes it once more
            node.outputs = tuple(new if t == old else t for t in node.outputs)
            node.mutates = tuple(new if t == old else t for t in node.mutates)
        node.inputs = tuple(new if t == old else t for t in node.inputs)
        if viewed:
            _slice_again(edit, users, node, new)


def _slice_again(edit: Edit, users: list[Node], node: Node, new: int) -> None:
    """Let a slice be one of `new`."""
    (old,) = node.outputs
    source, dim = edit.tensors[new], node.attrs["dim"]
    layout = edit.layout(edit.shape(old), source.dtype, source.layout.stride)
    offset = source.offset + source.layout.stride[dim] * (node.attrs["start"] or 0)
    sliced = edit.view(new, layout, offset)
    node.outputs = (sliced,)
    _replace(edit, users, old, sliced)
