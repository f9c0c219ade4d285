"""A linear classifier that a technique adds to a step: its forward, its backward and its update."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node
from simulator.rewriting.optimizer_ops import Repeated, Update, new_gradient, new_parameter, repeat


@dataclass(frozen=True, eq=False)
class Head:
    """y = pooled W^T + b: `pooled` (N, C), W (K, C), b (K), `logits` (N, K); `product` is the node that makes y."""

    name: str
    weight: int
    bias: int
    transpose: Node
    product: Node
    pooled: int
    logits: int


def pooled_head(at: Cursor, features: int, classes: int, name: str) -> Head:
    """Add the mean over each map of `features` (N, C, H, W), and a linear layer `name` of `classes` on it."""
    edit = at.edit
    dtype = edit.tensors[features].dtype
    weight = new_parameter(edit, f"{name}.weight", edit.layout((classes, edit.shape(features)[1]), dtype))
    bias = new_parameter(edit, f"{name}.bias", edit.layout((classes,), dtype))
    pooled = aten.reduce(at, "mean.dim", features, (2, 3))
    transposed = aten.t(at, weight)
    transpose = at.last
    logits = aten.addmm(at, bias, pooled, transposed, saved=[pooled])
    return Head(name, weight, bias, transpose, at.last, pooled, logits)


def head_gradients(at: Cursor, head: Head, dy: int) -> tuple[int, int]:
    """Add dW = dy^T pooled and db = sum of dy over the batch, as autograd runs them; returns both gradients."""
    edit = at.edit
    classes = edit.shape(head.bias)[0]
    dtype = edit.tensors[head.weight].dtype
    at.layer, at.forward = head.name, head.product
    of_weight = new_gradient(edit, f"{head.name}.weight", edit.tensors[head.weight].layout)
    of_bias = new_gradient(edit, f"{head.name}.bias", edit.layout((1, classes), dtype))
    with at.frame(dy):
        at.call("aten::mm", [aten.t(at, dy), head.pooled], [of_weight])
        transposed = aten.t(at, of_weight)
        at.call("aten::sum.dim_IntList", [dy], [of_bias], {"dim": (0,), "keepdim": True, "dtype": None})
        of_bias = aten.view(at, of_bias, (classes,))
    at.forward = head.transpose
    at.call("aten::t", [transposed], [of_weight])
    at.forward = None
    return of_weight, of_bias


def head_updates(edit: Edit, update: Update, head: Head, gradients: tuple[int, int], after: Node) -> list[Repeated]:
    """Add the update of weight and bias after `after`, each as `update` does it."""
    added: list[Repeated] = []
    for key, parameter, gradient in zip(("weight", "bias"), (head.weight, head.bias), gradients, strict=True):
        added.append(repeat(edit, update, f"{head.name}.{key}", parameter, gradient, after, head.name))
        after = added[-1].nodes[-1]
    return added
