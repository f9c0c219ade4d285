"""Convolutions: the three phases of one loop nest.

For images n, groups g, output channels k and input channels c per group, output positions p x q, taps r x s:

    y[n,g,k,p,q]  += x[n,g,c,p*stride+r*dilation-padding,...] * w[g,k,c,r,s]      forward
    dx[n,g,c,...] += dy[n,g,k,p,q] * w[g,k,c,r,s]                                 grad-input
    dw[g,k,c,r,s] += dy[n,g,k,p,q] * x[n,g,c,...]                                 grad-weight

All three run the same iterations, so each is n*g*k*c*p*q*r*s MACs and a depthwise backward is 2 times its
forward. The nest is full: a tap that falls on padding counts. A transposed convolution is the same nest with
x and y exchanged: p x q run over its input, k still counts its output channels. One-dimensional convolutions
have p = r = 1; three-dimensional ones fold depth into p and r.
"""

from __future__ import annotations

from typing import Any

from simulator.rules import rule
from simulator.rules.counting import pair, product, touched
from simulator.work import Call, Nest, Operand, Row


def _nest(call: Call, x: Operand, y: Operand, w: Operand) -> Nest:
    """Return the nest of input `x` (or its gradient), output `y` and weight `w` of a convolution."""
    attrs = call.attrs
    groups = attrs["groups"]
    dimensions = len(w.shape) - 2
    stride, dilation = pair(attrs["stride"], dimensions), pair(attrs["dilation"], dimensions)
    per_group = w.shape[1]
    if attrs["transposed"]:
        spatial, k, c = x.shape[-dimensions:], per_group, w.shape[0] // groups
    else:
        spatial, k, c = y.shape[-dimensions:], w.shape[0] // groups, per_group
    filters = w.shape[2:]
    batched = len(x.shape) == dimensions + 2
    return Nest(
        n=x.shape[0] if batched else 1,
        g=groups,
        k=k,
        c=c,
        p=product(spatial[:-1]),
        q=spatial[-1],
        r=product(filters[:-1]),
        s=filters[-1],
        stride_h=stride[-2] if dimensions > 1 else 1,
        stride_w=stride[-1],
        dilation_h=dilation[-2] if dimensions > 1 else 1,
        dilation_w=dilation[-1],
    )


def _kernel(call: Call, w: Operand) -> str:
    """`depthwise` where each group has one input channel and there are groups, else `convolution`."""
    channels = w.shape[0] // call.attrs["groups"] if call.attrs["transposed"] else w.shape[1]
    return "depthwise" if not equals_one(call.attrs["groups"]) and equals_one(channels) else "convolution"


def equals_one(value: Any) -> bool:
    """Whether an extent is 1 (an array, one per point, is taken for more)."""
    return isinstance(value, int) and value == 1


def _row(call: Call, part: str, x: Operand, y: Operand, w: Operand, extra_flops: Any = 0) -> Row:
    nest = _nest(call, x, y, w)
    return Row(
        _kernel(call, w),
        2 * nest.macs + extra_flops,
        touched(call.inputs),
        touched(call.written),
        nest.macs,
        nest,
        part=part,
    )


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution")
def convolution(call: Call) -> Row:
    """MACs = n*g*k*c*p*q*r*s; FLOPs = 2 MACs, + 1 an output element for a bias.

    Reads x, w, bias; writes y.
    """
    x, w = call.inputs[0], call.inputs[1]
    y = call.outputs[0]
    call = call if "transposed" in call.attrs else _not_transposed(call)
    return _row(call, "forward", x, y, w, y.numel if len(call.inputs) > 2 else 0)


def _not_transposed(call: Call) -> Call:
    """Return the call of a backend's convolution, whose schema has no `transposed`."""
    return Call(call.kind, call.inputs, call.outputs, call.written, {**call.attrs, "transposed": False})


@rule("convolution_grad_input")
def convolution_grad_input(call: Call) -> Row:
    """MACs as forward. Reads dy and w, writes dx."""
    dy, w = call.inputs[0], call.inputs[1]
    return _row(call, "input", call.outputs[0], dy, w)


@rule("convolution_grad_weight")
def convolution_grad_weight(call: Call) -> Row:
    """MACs as forward, groups included. Reads dy and x, writes dw."""
    dy, x = call.inputs[0], call.inputs[1]
    return _row(call, "weight", x, dy, call.outputs[0])


@rule("convolution_grad_bias")
def convolution_grad_bias(call: Call) -> Row:
    """db[k] = sum over images and positions of dy: 1 FLOP an element of dy."""
    dy = call.inputs[0]
    return Row("reduction", dy.numel, dy.touched_bytes, touched(call.written))
