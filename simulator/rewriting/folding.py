"""Folding frozen batch norms into frozen convolutions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import layer_of
from simulator.rewriting.node import Node


@dataclass(frozen=True)
class Fold:
    """A frozen convolution and the frozen batch norm that alone takes its result."""

    convolution: Node
    norm: Node


def folds(edit: Edit) -> list[Fold]:
    """Return every batch norm that can be folded into a convolution, in execution order; also one run in backward."""
    trained = {edit.tensors[t].storage for n in edit.nodes if n.phase == "optimizer" for t in n.mutates}
    makers = {n.outputs[0]: n for n in edit.nodes if n.kind == "convolution"}
    takers: dict[int, list[Node]] = {}
    for node in edit.nodes:
        for storage in {edit.tensors[t].storage for t in (*node.inputs, *node.mutates)}:
            takers.setdefault(storage, []).append(node)
    found = []
    for norm in edit.nodes:
        if norm.kind != "native_batch_norm" or norm.attrs.get("training"):
            continue
        convolution = makers.get(norm.inputs[0])
        # x, scale, shift, mean, variance; a norm without scale and shift has two operands less
        if convolution is None or convolution.attrs.get("transposed") or len(norm.inputs) < 3:
            continue
        frozen = {edit.tensors[t].storage for t in (*convolution.inputs[1:], *norm.inputs[1:])}
        others = [n for n in takers[edit.tensors[norm.inputs[0]].storage] if n is not norm and not _undoes(n, norm)]
        if not frozen & trained and not others:
            found.append(Fold(convolution, norm))
    return found


def fold(edit: Edit, pair: Fold, bias: int | None) -> int:
    """Take the norm of `pair` out, forward and backward; return the tensor of the convolution's bias.

    `bias` is the one that an earlier pass of the same convolution was given.
    """
    convolution, norm = pair.convolution, pair.norm
    workspace = edit.nodes[edit.nodes.index(norm) - 1]
    if workspace.kind == "empty" and workspace.layer == norm.layer:
        edit.remove(workspace)
    edit.remove(norm)
    for node in edit.backward_of(norm):
        if node.kind == "native_batch_norm_backward":
            edit.substitute(node.outputs[0], node.inputs[0])
            edit.remove(node)
        node.forward = convolution
    convolution.outputs = norm.outputs[:1]
    if len(convolution.inputs) == 2:
        if bias is None:
            bias = _new_bias(edit, convolution)
        convolution.inputs = (*convolution.inputs, bias)
        convolution.attrs = MappingProxyType({k: v for k, v in convolution.attrs.items() if k != "bias"})
    _drop(edit, layer_of(edit.storages[edit.tensors[norm.inputs[-1]].storage].name))
    return convolution.inputs[2]


def _undoes(node: Node, norm: Node) -> bool:
    return node.kind == "native_batch_norm_backward" and node.layer == norm.layer


def _new_bias(edit: Edit, convolution: Node) -> int:
    weight = edit.tensors[convolution.inputs[1]]
    name = edit.storages[weight.storage].name
    layer = layer_of(name)
    return edit.new(edit.layout(weight.shape[:1], weight.dtype), "parameter", f"{layer}.bias", persistent=True)


def _drop(edit: Edit, layer: str) -> None:
    """Let the parameters and buffers of a layer be part of the step no longer, once no op uses them."""
    used = {edit.tensors[t].storage for n in edit.nodes for t in (*n.tensors, *n.saved)}
    for number, storage in enumerate(edit.storages):
        if storage.role in ("parameter", "buffer") and layer_of(storage.name) == layer and number not in used:
            edit.storages[number] = replace(storage, role="temporary", name="")


def fuse_activation(edit: Edit, convolution: Node) -> None:
    """Fuse the ReLU that alone takes the result of a convolution into it; its gradient then goes with the latter."""
    storage = edit.tensors[convolution.outputs[0]].storage
    at = edit.nodes.index(convolution)
    takers = [
        n
        for n in edit.nodes[at + 1 :]
        if n.phase == "forward" and storage in {edit.tensors[t].storage for t in n.inputs}
    ]
    if not takers or takers[0].kind not in ("relu", "relu_", "hardtanh", "hardtanh_"):
        return
    activation = takers[0]
    if not activation.mutates and len(takers) > 1:
        return
    for node in edit.backward_of(activation):
        node.forward = convolution
    convolution.outputs = activation.outputs
    convolution.saved = tuple(dict.fromkeys((*convolution.saved, *activation.saved)))
    edit.remove(activation)
