"""Linear layers that compute with codes of few bits: their ops, as the runnable twins run them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.bits import Pair, with_bits
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.layers import layer_of
from simulator.rewriting.node import Node
from simulator.rewriting.quantising import Operands, Widths, check_plain, cursor, plain_gradient, scaled


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer as PyTorch runs it: `transpose` of its weight, then `product` (addmm, or mm without a bias).

    `x` (N, in), `weight` (out, in), `bias` (out,) or None and `y` (N, out) are tensors. `backward` are the ops that
    differentiate both; they make `dx`, `dw` and `db`, None where nobody wants them, from `dy`.
    """

    transpose: Node
    product: Node
    x: int
    weight: int
    bias: int | None
    y: int
    backward: tuple[Node, ...] = ()
    dy: int | None = None
    dx: int | None = None
    dw: int | None = None
    db: int | None = None


def linears(edit: Edit) -> list[Linear]:
    """Return the linear layers of the forward pass in order of execution: modules with a parameter `weight`."""
    found = []
    transposes: dict[int, Node] = {}
    for node in edit.nodes:
        if node.phase != "forward":
            continue
        if node.kind == "t":
            storage = edit.storages[edit.tensors[node.inputs[0]].storage]
            if storage.role == "parameter" and layer_of(storage.name) == node.layer and storage.name.endswith("weight"):
                transposes[node.outputs[0]] = node
        elif node.kind in ("addmm", "mm") and node.inputs[-1] in transposes:
            found.append(_linear(edit, transposes[node.inputs[-1]], node))
    return found


def _linear(edit: Edit, transpose: Node, product: Node) -> Linear:
    *bias, x, _ = product.inputs
    layer = Linear(transpose, product, x, transpose.inputs[0], bias[0] if bias else None, product.outputs[0])
    backward = tuple(n for n in edit.nodes if n.forward in (transpose, product))
    made = {t for n in backward for t in n.outputs}
    shape = edit.shape(layer.y)
    coming = [t for n in backward for t in n.inputs if t not in made and edit.shape(t) == shape]
    coming = [t for t in coming if edit.storages[edit.tensors[t].storage].born >= 0]
    if not coming:
        return layer
    dx = dw = db = None
    for node in backward:
        if node.kind == "mm" and node.inputs[0] == coming[0]:
            dx = node.outputs[0]
        elif node.kind == "t" and node.forward is transpose:
            dw = node.outputs[0]
        elif node.kind == "view":
            db = node.outputs[0]
    return replace(layer, backward=backward, dy=coming[0], dx=dx, dw=dw, db=db)


def quantise_linear(edit: Edit, layer: Linear, widths: Widths) -> None:
    """Let a linear layer and its backward compute with codes.

    Raises `TrainwattError` where it does so already, or does not compute in float32.
    """
    node = layer.product
    check_plain(edit, node, ["t", "mm", "sum", "view"])
    operands = Operands(edit, node, layer.x, layer.weight, widths)
    at = cursor(edit.before(node))
    x, weight = operands.multiplied
    node.name, node.kind, node.inputs = "aten::mm", "mm", (x, aten.t(at, weight))
    node.attrs = with_bits({}, (widths.activations, widths.weights))
    edit.remove(layer.transpose)
    at = cursor(edit.after(node))
    operands.rescale(at, layer.y)
    if layer.bias is not None:
        aten.pointwise_(at, "add_.Tensor", layer.y, layer.bias, alpha=1)
    node.saved = operands.save(at, for_weight=layer.dw is not None, for_input=layer.dx is not None)
    if layer.dy is not None:
        _backward(edit, layer, operands, layer.dy)


def _backward(edit: Edit, layer: Linear, operands: Operands, incoming: int) -> None:
    at = cursor(edit.before(layer.backward[0], forward=layer.product))
    at.layer = layer.product.layer
    widths = operands.widths

    def product(at: Cursor, a: int, b: int, out: int | None, bits: Pair) -> int:
        out = at.result((edit.shape(a)[1], edit.shape(b)[1]), "float32") if out is None else out
        at.call("aten::mm", [aten.t(at, a), b], [out], with_bits({}, bits))
        return out

    with at.frame(incoming):
        dy = operands.gradient(at, incoming)
        if layer.dx is not None:
            weight, step = operands.again(at, 1)
            at.call("aten::mm", [dy[0], weight], [layer.dx], with_bits({}, (widths.gradients, widths.weights)))
            at.drop(weight)
            scaled(at, layer.dx, dy[1], step)
        if layer.dw is not None:
            with at.frame():
                plain_gradient(widths)(at, product, dy, operands.again(at, 0), layer.dw)
        if layer.db is not None:
            aten.sum_into(at, incoming, (0,), layer.db)
    for node in layer.backward:
        edit.remove(node)
