"""Mixed precision as `torch.autocast` runs it: products take 16-bit operands, and what follows from them is 16-bit.

Convolutions and matrix products cast their float32 operands (each weight once a step); other ops compute in what they
are given; the loss is computed in float32. Gradients are of the precision of what they are the gradient of, so those of
weights are cast back to float32, in which weights are kept and updated (Micikevicius et al., "Mixed Precision
Training", ICLR 2018, arXiv:1710.03740).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from simulator.errors import TrainwattError
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node

PRODUCTS = frozenset({"convolution", "addmm", "mm", "bmm", "baddbmm"})
WITH_PARAMETERS = frozenset({"native_batch_norm", "native_batch_norm_backward"})
"""Other ops that take float32 parameters beside 16-bit activations, and return what is as precise as the latter."""


@dataclass(eq=False)
class _Casting:
    edit: Edit
    dtype: str
    halved: set[int] = field(default_factory=set)  # storages
    weights: dict[int, tuple[int, Node]] = field(default_factory=dict)  # of a parameter's storage: its copy
    losses: dict[Node, list[Node]] = field(default_factory=dict)  # casts to float32 by the loss op that takes them


def autocast(edit: Edit, dtype: str) -> None:
    """Let a step in float32 run in mixed precision with the 16-bit type `dtype`.

    Raises `TrainwattError` where it does not compute in float32, or an op mixes precisions in ways not known here.
    """
    if any(t.dtype in ("float16", "bfloat16", "int8") for t in edit.tensors):
        raise TrainwattError("the step computes with few bits already; quantize one in float32")
    if not any(n.kind in PRODUCTS and n.phase == "forward" for n in edit.nodes):
        raise TrainwattError("no convolution or matrix product to compute in 16 bits; quantize makes these cheaper")
    casting = _Casting(edit, dtype)
    for node in list(edit.nodes):
        if node.phase in ("forward", "loss"):
            _forward(casting, node)
    end = next(n for n in reversed(edit.nodes) if n.phase in ("forward", "loss"))
    trained = {s.name.rpartition(".")[0] for s in edit.storages if s.role == "gradient"}
    for parameter, (copy, _) in casting.weights.items():
        if edit.storages[parameter].name in trained:  # others are not kept
            edit.hold(copy, end)
    for node in [n for n in edit.nodes if n.phase == "backward"]:
        _backward(casting, node)
    _gradients(casting)
    for storage in casting.halved:
        edit.storages[storage] = replace(edit.storages[storage], size_bytes=edit.storages[storage].size_bytes // 2)
    for i, tensor in enumerate(edit.tensors):
        if tensor.storage in casting.halved:
            layout = edit.layout(tensor.layout.shape, dtype, tensor.layout.stride)
            edit.tensors[i] = replace(tensor, layout=layout)


def _floats(casting: _Casting, tensors: tuple[int, ...]) -> list[int]:
    """Return those of tensors that hold floating-point numbers which are no parameters or buffers."""
    edit = casting.edit
    found = [t for t in tensors if edit.tensors[t].dtype == casting.dtype or edit.tensors[t].dtype == "float32"]
    return [t for t in found if edit.storages[edit.tensors[t].storage].role not in ("parameter", "buffer")]


def _is_16_bit(casting: _Casting, tensor: int) -> bool:
    return casting.edit.tensors[tensor].storage in casting.halved or casting.edit.tensors[tensor].dtype == casting.dtype


def _cursor(at: Cursor) -> Cursor:
    at.runs = at.anchor.runs
    return at


def _cast(at: Cursor, tensor: int, dtype: str) -> int:
    attrs = {"dtype": dtype, "memory_format": None}
    return aten.pointwise(at, "_to_copy", tensor, dtype=dtype, attrs=attrs)


def _use(node: Node, new: dict[int, int]) -> None:
    node.inputs, node.outputs, node.saved = (
        tuple(new.get(t, t) for t in ids) for ids in (node.inputs, node.outputs, node.saved)
    )


def _use_instead(edit: Edit, nodes: list[Node], old: int, copy: int) -> None:
    """Let `nodes` take `copy` for `old`, and views of it for views of that."""
    storage, new = edit.tensors[old].storage, {old: copy}
    for t in {t for node in nodes for t in (*node.inputs, *node.outputs, *node.saved)} - {old}:
        if edit.tensors[t].storage == storage:
            layout = edit.tensors[t].layout
            like = edit.layout(layout.shape, edit.tensors[copy].dtype, layout.stride)
            new[t] = edit.view(copy, like, edit.tensors[t].offset)
    for node in nodes:
        _use(node, new)


def _halve(casting: _Casting, tensors: tuple[int, ...]) -> None:
    edit = casting.edit
    for t in tensors:
        storage = edit.tensors[t].storage
        if edit.tensors[t].dtype == "float32" and edit.storages[storage].born >= 0:
            casting.halved.add(storage)


# -- forward -----------------------------------------------------------------------------------------------------------


def _forward(casting: _Casting, node: Node) -> None:
    edit = casting.edit
    given = _floats(casting, node.inputs)
    if node.phase == "loss":
        wide = {t: -1 for t in given if _is_16_bit(casting, t)}
        for t in wide:
            at = _cursor(edit.before(node))
            wide[t] = _cast(at, t, "float32")
            casting.losses.setdefault(node, []).append(at.last)
        _use(node, wide)
    elif node.kind in PRODUCTS:
        _product(casting, node)
    elif any(_is_16_bit(casting, t) for t in given):
        others = [t for t in node.inputs if edit.tensors[t].dtype == "float32" and not _is_16_bit(casting, t)]
        if others and node.kind not in WITH_PARAMETERS:
            raise TrainwattError(f"{node.kind!r} in {node.layer!r} mixes precisions; trace the step in 16 bits instead")
        _halve(casting, node.outputs)


def _product(casting: _Casting, node: Node) -> None:
    """Cast the operands of a product, last first; a weight in front of the view of it that a linear layer takes."""
    edit = casting.edit
    views = {n.outputs[0]: n for n in edit.nodes if n.kind == "t" and n.phase == "forward"}
    first = views.get(node.inputs[-1], node)
    users = [node, *edit.backward_of(node)]
    if first is not node:
        users.append(first)
    ahead = 1 if node.kind == "addmm" else 0  # PyTorch's linear layer has its bias last
    for t in (*node.inputs[:ahead], *reversed(node.inputs[ahead:])):
        storage = edit.tensors[t].storage
        if _is_16_bit(casting, t):
            continue
        if edit.storages[storage].role != "parameter":
            copy = _cast(_cursor(edit.before(first)), t, casting.dtype)
        elif storage in casting.weights:
            copy = casting.weights[storage][0]
        else:
            whole = first.inputs[0] if t in views else t
            at = _cursor(edit.before(first))
            copy = _cast(at, whole, casting.dtype)
            casting.weights[storage] = copy, at.last
        _use_instead(edit, users, first.inputs[0] if t in views else t, copy)
    _halve(casting, node.outputs)


# -- backward ----------------------------------------------------------------------------------------------------------


def _backward(casting: _Casting, node: Node) -> None:
    """Let a gradient be as precise as what it is the gradient of."""
    edit, forward = casting.edit, node.forward
    if forward is not None and forward.phase == "loss":
        for cast in casting.losses.get(forward, ()):
            if len(node.outputs) != 1 or len(casting.losses[forward]) != 1:
                raise TrainwattError(f"{node.kind!r} has several gradients; quantize knows a loss of one prediction")
            narrow = _cast(_cursor(edit.after(node, forward=cast)), node.outputs[0], casting.dtype)
            later = edit.nodes[edit.nodes.index(node) + 2 :]
            _use_instead(edit, later, node.outputs[0], narrow)
    elif any(_is_16_bit(casting, t) for t in _floats(casting, node.inputs)):
        _halve(casting, node.outputs[:1] if node.kind in WITH_PARAMETERS else node.outputs)


def _gradients(casting: _Casting) -> None:
    """Cast the gradients of weights back."""
    edit = casting.edit
    named = {s.name: i for i, s in enumerate(edit.storages) if s.role == "gradient" and i in casting.halved}
    backward = [n for n in edit.nodes if n.phase == "backward"]
    for parameter, (_, cast) in reversed(casting.weights.items()):
        storage = named.get(f"{edit.storages[parameter].name}.grad")
        if storage is None:
            continue
        makers = [n for n in backward if any(edit.tensors[t].storage == storage for t in n.outputs)]
        layer = {n.forward for n in makers}  # the product and, of a linear layer, the view of its weight
        layer |= {n for n in edit.nodes if n.kind == "t" and set(n.outputs) & {t for m in layer if m for t in m.inputs}}
        end = _after_casts(edit, max((n for n in backward if n.forward in layer), key=edit.nodes.index))
        old = makers[-1].outputs[0]
        gradient = _cast(_cursor(edit.after(end, layer=cast.layer, forward=cast)), old, "float32")
        made = edit.storages[storage]
        edit.storages[edit.tensors[gradient].storage] = replace(
            edit.storages[edit.tensors[gradient].storage], role="gradient", died=None, name=made.name
        )
        edit.storages[storage] = replace(made, role="temporary", died=0, name="")
        for node in edit.nodes:
            if node.phase == "optimizer":
                _use(node, {t: gradient for t in node.inputs if edit.tensors[t].storage == storage})


def _after_casts(edit: Edit, node: Node) -> Node:
    """Return the last of the casts and of the sums by the autograd engine that follow `node`."""
    at = edit.nodes.index(node) + 1
    while at < len(edit.nodes) and edit.nodes[at].phase == "backward":
        after = edit.nodes[at]
        if after.kind != "_to_copy" and not (after.kind in ("add", "add_") and after.forward is None):
            break
        at += 1
    return edit.nodes[at - 1]
