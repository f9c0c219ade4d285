"""The losses of several classifiers, added up, and their backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulator.errors import TrainwattError
from simulator.rewriting import aten
from simulator.rewriting.cursor import Cursor
from simulator.rewriting.edit import Edit
from simulator.rewriting.node import Node


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """The loss of a step: mean cross-entropy of `logits` (N, K) and `target` (N); `nodes` are its two ops."""

    logits: int
    target: int
    nodes: tuple[Node, Node]
    classes: int


@dataclass(frozen=True, eq=False)
class Losses:
    """`total` is the sum of the losses; `backward(at, grad)` adds their backward and returns that of each's logits."""

    total: int
    backward: Callable[[Cursor, int], list[int]]


def cross_entropy_of(edit: Edit) -> CrossEntropy:
    """Return the loss of a step that classifies; raises `TrainwattError` for any other."""
    nodes = [node for node in edit.nodes if node.phase == "loss"]
    if [node.kind for node in nodes] != ["_log_softmax", "nll_loss_forward"]:
        kinds = " ".join(node.kind for node in nodes) or "nothing"
        raise TrainwattError(f"the loss runs {kinds}; it must be one cross-entropy of logits (N, K) and labels (N)")
    logits = nodes[0].inputs[0]
    classes = edit.shape(logits)[1]
    assert isinstance(classes, int)
    return CrossEntropy(logits, nodes[1].inputs[1], (nodes[0], nodes[1]), classes)


def cross_entropies(at: Cursor, logits: Sequence[int], like: CrossEntropy) -> Losses:
    """Add the cross-entropy of each of `logits` with the labels, as `like` has it."""
    passes = []
    total = -1
    for z in logits:
        q, log_softmax = _log_softmax(at, z)
        loss, weight = at.result((), at.edit.tensors[z].dtype), at.result((), at.edit.tensors[z].dtype)
        saved = [q, like.target, weight]
        at.call("aten::nll_loss_forward", [q, like.target], [loss, weight], like.nodes[1].attrs, saved=saved)
        passes.append((q, weight, log_softmax, at.last))
        total = _sum(at, total, loss)

    def backward(at: Cursor, grad: int) -> list[int]:
        made = []
        for q, weight, log_softmax, nll in reversed(passes):
            at.forward = nll
            of_q = at.result(at.edit.shape(q), at.edit.tensors[q].dtype)
            at.call("aten::nll_loss_backward", [grad, q, like.target, weight], [of_q], nll.attrs)
            made.append(_log_softmax_backward(at, of_q, q, log_softmax))
        return made[::-1]

    return Losses(total, backward)


def soft_cross_entropies(at: Cursor, logits: Sequence[int]) -> Losses:
    """Add, for all but the last of `logits`, the cross-entropy with the softmax p of the last.

    loss = -mean over n of sum over k of p_nk log q_nk (Hinton et al. 2015, at temperature 1).
    """
    *students, teacher = logits
    p = at.result(at.edit.shape(teacher), at.edit.tensors[teacher].dtype)
    at.call("aten::_softmax", [teacher], [p], {"dim": 1, "half_to_float": False})
    passes = []
    total = -1
    for z in students:
        q, log_softmax = _log_softmax(at, z)
        product = aten.pointwise(at, "mul.Tensor", p, q, saved=[p])
        nodes = [log_softmax, at.last]
        summed = at.result((), at.edit.tensors[z].dtype)
        nodes.append(at.call("aten::sum", [product], [summed], {"dtype": None}))
        loss = aten.pointwise(at, "div.Tensor", summed)
        passes.append((q, (*nodes, at.last)))
        total = _sum(at, total, loss)
    at.edit.hold(p, at.last)

    def backward(at: Cursor, grad: int) -> list[int]:
        made = []
        for q, (log_softmax, product, summed, divided) in reversed(passes):
            at.forward = divided
            scaled = aten.pointwise(at, "div.Tensor", grad)
            at.forward = summed
            spread = aten.expand(at, scaled, at.edit.shape(q))
            at.forward = product
            of_q = at.result(at.edit.shape(q), at.edit.tensors[q].dtype)
            at.call("aten::mul.Tensor", [spread, p], [of_q])
            made.append(_log_softmax_backward(at, of_q, q, log_softmax))
        return made[::-1]

    return Losses(total, backward)


def _log_softmax(at: Cursor, logits: int) -> tuple[int, Node]:
    q = at.result(at.edit.shape(logits), at.edit.tensors[logits].dtype)
    return q, at.call("aten::_log_softmax", [logits], [q], {"dim": 1, "half_to_float": False}, saved=[q])


def _log_softmax_backward(at: Cursor, grad: int, q: int, forward: Node) -> int:
    at.forward = forward
    dtype = at.edit.tensors[q].dtype
    out = at.result(at.edit.shape(q), dtype)
    at.call("aten::_log_softmax_backward_data", [grad, q], [out], {"dim": 1, "input_dtype": dtype})
    return out


def _sum(at: Cursor, total: int, loss: int) -> int:
    return loss if total < 0 else aten.pointwise(at, "add.Tensor", total, loss, attrs={"alpha": 1})
