"""Matrix products: `n` products of (p x c) by (c x k), MACs = n*p*c*k, FLOPs = 2 MACs.

Where the result is added to another operand (beta * input + alpha * product), each element adds 1 FLOP, and
one more for a beta and for an alpha that is not 1. With beta = 0 the operand is not read.
"""

from __future__ import annotations

from typing import Any

from simulator.rules import rule
from simulator.rules.counting import equals, product, touched
from simulator.work import Call, Nest, Row


def _row(call: Call, nest: Nest, flops: Any = 0, unread: int = 0) -> Row:
    return Row("gemm", 2 * nest.macs + flops, touched(call.inputs[unread:]), touched(call.written), nest.macs, nest)


def _add(call: Call, nest: Nest) -> Row:
    """The row of beta * inputs[0] + alpha * product."""
    out = call.outputs[0].numel
    beta, alpha = call.attrs.get("beta", 1), call.attrs.get("alpha", 1)
    scaled = 0 if equals(alpha, 1) else out
    if equals(beta, 0):
        return _row(call, nest, scaled, unread=1)
    return _row(call, nest, scaled + out + (0 if equals(beta, 1) else out))


@rule("mm")
def mm(call: Call) -> Row:
    """(p x c) (c x k)."""
    a, b = call.inputs[0], call.inputs[1]
    return _row(call, Nest(p=a.shape[0], c=a.shape[1], k=b.shape[1]))


@rule("bmm")
def bmm(call: Call) -> Row:
    """n products of (p x c) (c x k)."""
    a, b = call.inputs[0], call.inputs[1]
    return _row(call, Nest(n=a.shape[0], p=a.shape[1], c=a.shape[2], k=b.shape[2]))


@rule("addmm", "addmm_", "_addmm_activation")
def addmm(call: Call) -> Row:
    """beta input + alpha (p x c) (c x k); `_addmm_activation` as if without its activation."""
    a, b = call.inputs[1], call.inputs[2]
    return _add(call, Nest(p=a.shape[0], c=a.shape[1], k=b.shape[1]))


@rule("baddbmm", "baddbmm_")
def baddbmm(call: Call) -> Row:
    """beta input + alpha n products of (p x c) (c x k)."""
    a, b = call.inputs[1], call.inputs[2]
    return _add(call, Nest(n=a.shape[0], p=a.shape[1], c=a.shape[2], k=b.shape[2]))


@rule("addbmm", "addbmm_")
def addbmm(call: Call) -> Row:
    """beta input + alpha sum over n of (p x c) (c x k): the sum over n is a longer c."""
    a, b = call.inputs[1], call.inputs[2]
    return _add(call, Nest(p=a.shape[1], c=a.shape[0] * a.shape[2], k=b.shape[2]))


@rule("linear", "mkldnn_linear")
def linear(call: Call) -> Row:
    """x (p x c) times weight (k x c) transposed, + 1 FLOP an element for a bias; p = all leading dimensions
    of x.
    """
    x, w = call.inputs[0], call.inputs[1]
    bias = call.outputs[0].numel if len(call.inputs) > 2 else 0
    return _row(call, Nest(p=product(x.shape[:-1]), c=x.shape[-1], k=w.shape[0]), bias)


@rule("mv")
def mv(call: Call) -> Row:
    """(p x c) times a vector."""
    a = call.inputs[0]
    return _row(call, Nest(p=a.shape[0], c=a.shape[1]))


@rule("addmv", "addmv_")
def addmv(call: Call) -> Row:
    """beta input + alpha (p x c) times a vector."""
    a = call.inputs[1]
    return _add(call, Nest(p=a.shape[0], c=a.shape[1]))


@rule("dot", "vdot")
def dot(call: Call) -> Row:
    """c products, summed."""
    return _row(call, Nest(c=call.inputs[0].shape[0]))


@rule("addr", "addr_")
def addr(call: Call) -> Row:
    """beta input + alpha outer product (p x 1) (1 x k)."""
    return _add(call, Nest(p=call.inputs[1].shape[0], k=call.inputs[2].shape[0]))


@rule("_trilinear")
def trilinear(call: Call) -> Row:
    """`nn.Bilinear`: at each point of the broadcast index space one MAC and one further product, 3 FLOPs.

    Operand j lacks the dimensions listed in `expand{j}`; a dimension's extent comes from an operand that has
    it.
    """
    extents: dict[int, Any] = {}
    for operand, name in zip(call.inputs, ("expand1", "expand2", "expand3"), strict=True):
        missing = set(call.attrs[name])
        own = [d for d in range(len(operand.shape) + len(missing)) if d not in missing]
        extents.update(zip(own, operand.shape, strict=True))
    nest = Nest(p=product(list(extents.values())))
    return _row(call, nest, nest.macs)


@rule("_cdist_forward", "_cdist_backward")
def cdist(call: Call) -> Row:
    """Distances of (p x c) to (k x c), n times: sum of |a - b|^2, 3 FLOPs a pair and feature; backward 5."""
    a, b = (call.inputs[1], call.inputs[2]) if call.kind == "_cdist_backward" else (call.inputs[0], call.inputs[1])
    pairs = a.numel * b.shape[-2]
    per_pair = 5 if call.kind == "_cdist_backward" else 3
    return Row("reduction", per_pair * pairs, touched(call.inputs), touched(call.written))
