"""Dimensions of the ops that layers are made of: convolutions, products, norms, pooling, attention."""

from __future__ import annotations

from simulator.graph import Op
from simulator.rewriting.channels.dims import Unclear, times
from simulator.rewriting.channels.walk import Walk, rule
from simulator.rules.counting import names
from simulator.rules.interpolate import TAPS

CONVOLUTIONS = ("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "cudnn_convolution")


@rule(*CONVOLUTIONS)
def convolution(walk: Walk, index: int, op: Op) -> None:
    """x (N, C, ...), w (K, C/groups, ...) or, transposed, (C, K/groups, ...), b (K) to y (N, K, ...).

    A grouped convolution keeps its number of groups, a depthwise one (C/groups = 1) its channels per group.
    """
    x, w = walk.of(op.inputs[0]), walk.of(op.inputs[1])
    groups = op.attrs["groups"]
    if len(x) != len(w):
        raise Unclear
    for dim in (*x[2:], *w[2:]):
        walk.unknowns.fix(dim)
    entering, leaving = (w[0], w[1]) if op.attrs.get("transposed") else (w[1], w[0])
    if groups == 1:
        walk.unknowns.equate(x[1], entering)
    elif op.attrs.get("transposed"):
        raise Unclear
    elif walk.size(entering) == 1:
        multiplier = walk.size(leaving) // groups
        walk.unknowns.equate(leaving, times(x[1], (multiplier,)))
        walk.numbers[index] = {"groups": x[1]}
    else:
        walk.unknowns.equate(walk.unknowns.parts(x[1], groups), entering)
        walk.unknowns.parts(leaving, groups)
    if len(op.inputs) > 2:
        walk.unknowns.equate(walk.of(op.inputs[2])[0], leaving)
    y = op.outputs[0]
    walk.give(y, [x[0], leaving, *((e,) for e in walk.shape(y)[2:])])
    walk.makes(op, op.inputs[1], leaving, convolution=True)


@rule("convolution_grad_input", "convolution_grad_weight", "convolution_grad_bias")
def convolution_backward(walk: Walk, index: int, op: Op) -> None:
    """The gradient of y to that of x, w or b."""
    forward = walk.forward(op, *CONVOLUTIONS)
    y = walk.of(forward.outputs[0])
    walk.equate(walk.of(op.inputs[0]), y)
    part = op.kind.removeprefix("convolution_grad_")
    if part != "bias":  # the weight, or the input
        walk.equate(walk.of(op.inputs[1]), walk.of(forward.inputs[part == "input"]))
    walk.give(op.outputs[0], [y[1]] if part == "bias" else walk.of(forward.inputs[part == "weight"]))
    if forward.attrs["groups"] != 1 and op.forward in walk.numbers:
        walk.numbers[index] = dict(walk.numbers[op.forward])


@rule("mm", "bmm", "addmm", "addmm_", "baddbmm", "linear")
def product(walk: Walk, index: int, op: Op) -> None:
    """(.., A, B) by (.., B, C) gives (.., A, C), plus what broadcasts to it; `linear` has its weight as (C, B)."""
    *added, first, second = op.inputs
    if op.kind == "linear":
        first, second, *added = op.inputs
    a, b = walk.of(first), walk.of(second)
    if op.kind == "linear":
        b = b[::-1]
    walk.unknowns.equate(a[-1], b[-2])
    if len(b) > 2:
        walk.equate(a[:-2], b[:-2])
    dims = [*a[:-1], b[-1]]
    for tensor in added:
        shape = walk.shape(tensor)
        for dim, of_sum, size in zip(walk.of(tensor), dims[len(dims) - len(shape) :], shape, strict=True):
            if size != 1:
                walk.unknowns.equate(dim, of_sum)
    walk.give(op.outputs[0], dims)
    role = walk.graph.storages[walk.graph.tensors[second].storage].role
    if op.phase == "forward" and role == "parameter":
        walk.makes(op, second, b[-1])


@rule(
    *names(
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional cudnn_batch_norm "
        "miopen_batch_norm native_batch_norm_backward cudnn_batch_norm_backward miopen_batch_norm_backward"
    )
)
def batch_norm(walk: Walk, index: int, op: Op) -> None:
    """Maps (N, C, ...) and vectors (C): weight, bias, statistics, and their gradients. Eval mode saves none."""
    x = walk.of(op.inputs[0])
    for tensor in (*op.inputs, *op.outputs):
        shape = walk.shape(tensor)
        if shape == (0,):
            walk.give(tensor, [(0,)])
        elif len(shape) == 1:
            walk.give(tensor, [x[1]])
        else:
            walk.give(tensor, x)


@rule("native_group_norm")
def group_norm(walk: Walk, index: int, op: Op) -> None:
    """x (N, C, ...), weight and bias (C); statistics (N, groups). The number of groups stays."""
    x, groups = walk.of(op.inputs[0]), op.attrs["group"]
    walk.unknowns.parts(x[1], groups)
    for tensor in op.inputs[1:]:
        walk.give(tensor, [x[1]])
    for tensor in op.outputs:
        walk.give(tensor, x if len(walk.shape(tensor)) == len(x) > 2 else [x[0], (groups,)])
    walk.numbers[index] = {"C": x[1]}


@rule("native_group_norm_backward")
def group_norm_backward(walk: Walk, index: int, op: Op) -> None:
    """As forward; gradients of x, weight and bias."""
    forward = walk.forward(op, "native_group_norm")
    x = walk.of(forward.inputs[0])
    walk.equate(walk.of(op.inputs[0]), x)
    for tensor in op.outputs:
        walk.give(tensor, [x[1]] if len(walk.shape(tensor)) == 1 else x)
    walk.numbers[index] = {"C": x[1]}


@rule("native_layer_norm", "native_layer_norm_backward")
def layer_norm(walk: Walk, index: int, op: Op) -> None:
    """x (.., D...), weight and bias (D...), statistics (.., 1...)."""
    x = walk.of(op.inputs[0])
    normed = x[len(x) - len(op.attrs["normalized_shape"]) :]
    outer = x[: len(x) - len(normed)]
    for tensor in (*op.inputs, *op.outputs):
        shape = walk.shape(tensor)
        if shape == walk.shape(op.inputs[0]):
            walk.give(tensor, x)
        elif len(shape) == len(normed):
            walk.give(tensor, normed)
        else:
            walk.give(tensor, [*outer, *([(1,)] * len(normed))])
    walk.numbers[index] = {"normalized_shape": list(normed)}


_POOLS = names(
    "max_pool2d_with_indices max_pool2d avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d "
    "mkldnn_max_pool2d mkldnn_adaptive_avg_pool2d"
)


@rule(*_POOLS, *(f"{kind}_backward" for kind in _POOLS), *TAPS, *(f"{kind}_backward" for kind in TAPS))
def per_channel(walk: Walk, index: int, op: Op) -> None:
    """Maps (N, C, ...) of which each is worked on alone: pooling, resampling."""
    x = walk.of(op.inputs[0])
    if len(x) != 4:
        raise Unclear
    for tensor in op.inputs:
        for dim in walk.of(tensor)[2:]:
            walk.unknowns.fix(dim)
        walk.equate(walk.of(tensor)[:2], x[:2])
    for tensor in op.outputs:
        walk.give(tensor, [*x[:2], *((e,) for e in walk.shape(tensor)[2:])])
    if "input_size" in op.attrs:
        walk.numbers[index] = {"input_size": [*x[:2], *((e,) for e in walk.shape(op.outputs[0])[2:])]}


_ATTENTION = names(
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_fused_attention_overrideable"
)


@rule(*_ATTENTION)
def attention(walk: Walk, index: int, op: Op) -> None:
    """Q (.., S, D), K (.., T, D), V (.., T, E) to (.., S, E) and row sums (.., S)."""
    if len(op.inputs) != 3 or len(op.outputs) != 2:
        raise Unclear
    q, k, v = (walk.of(t) for t in op.inputs)
    for dim in (*q[:-1], *k[:-1], *v[:-1]):
        walk.unknowns.fix(dim)
    walk.unknowns.equate(q[-1], k[-1])
    walk.give(op.outputs[0], [*q[:-1], v[-1]])
    walk.give(op.outputs[1], q[:-1])


@rule(*(f"{kind}_backward" for kind in _ATTENTION))
def attention_backward(walk: Walk, index: int, op: Op) -> None:
    """Gradients of Q, K and V."""
    forward = walk.forward(op, *_ATTENTION)
    walk.equate(walk.of(op.inputs[0]), walk.of(forward.outputs[0]))
    for tensor, operand in zip(op.outputs, forward.inputs, strict=True):
        walk.give(tensor, walk.of(operand))


@rule("embedding")
def embedding(walk: Walk, index: int, op: Op) -> None:
    """A table (V, D) and indices (..) to (.., D); the vocabulary stays."""
    table, indices = walk.of(op.inputs[0]), walk.of(op.inputs[1])
    walk.unknowns.fix(table[0])
    walk.give(op.outputs[0], [*indices, table[1]])


@rule("embedding_dense_backward")
def embedding_backward(walk: Walk, index: int, op: Op) -> None:
    """The gradient (.., D) to that of the table."""
    walk.give(op.outputs[0], [(walk.shape(op.outputs[0])[0],), walk.of(op.inputs[0])[-1]])
