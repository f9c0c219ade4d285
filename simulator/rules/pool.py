"""Pooling.

A window of k taps costs k FLOPs an output element (compare or add); an average 1 more (divide).
"""

from __future__ import annotations

from typing import Any

from simulator.rules import rule
from simulator.rules.counting import product, taps, touched
from simulator.work import Call, Operand, Row


def _dimensions(call: Call) -> int:
    """Return 1, 2 or 3: the number in the kind's name (`max_pool2d_with_indices`)."""
    return next(n for n in (1, 2, 3) if f"{n}d" in call.kind)


def _window_elements(full: Operand, small: Operand, dimensions: int) -> Any:
    """Return how many elements all windows of an adaptive pooling read together.

    Window i of `out` over `full` runs from floor(i*in/out) to ceil((i+1)*in/out), so windows may overlap by
    one.
    """
    total = product(small.shape[:-dimensions])
    for n_in, n_out in zip(full.shape[-dimensions:], small.shape[-dimensions:], strict=True):
        total = total * sum(-(-((i + 1) * n_in) // n_out) - i * n_in // n_out for i in range(n_out))
    return total


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d", "max_pool1d", "max_pool3d",
      "fractional_max_pool2d", "mkldnn_max_pool2d")  # fmt: skip
def max_pool(call: Call) -> Row:
    """k compares an output element. Reads x, writes y and (8 bytes each) the indices."""
    flops = taps(call, _dimensions(call)) * call.outputs[0].numel
    return Row("pool", flops, touched(call.inputs), touched(call.written))


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward", "adaptive_max_pool2d_backward",
      "adaptive_max_pool3d_backward", "fractional_max_pool2d_backward")  # fmt: skip
def max_pool_backward(call: Call) -> Row:
    """1 add an element of dy.

    Reads dy and the indices, not x; writes the full map (zeros, then the scattered dy).
    """
    dy, indices = call.inputs[0], call.inputs[-1]
    return Row("pool", dy.numel, dy.touched_bytes + indices.touched_bytes, touched(call.written))


@rule("adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(call: Call) -> Row:
    """1 compare an element of each window. Reads x, writes y and the indices."""
    flops = _window_elements(call.inputs[0], call.outputs[0], _dimensions(call))
    return Row("pool", flops, touched(call.inputs), touched(call.written))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(call: Call) -> Row:
    """k adds and 1 divide an output element."""
    y = call.outputs[0]
    flops = (taps(call, _dimensions(call)) + 1) * y.numel
    return Row("pool", flops, touched(call.inputs), touched(call.written))


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def avg_pool_backward(call: Call) -> Row:
    """1 divide and k adds an element of dy. Reads dy, not x; writes the full map."""
    dy = call.inputs[0]
    return Row("pool", (taps(call, _dimensions(call)) + 1) * dy.numel, dy.touched_bytes, touched(call.written))


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "mkldnn_adaptive_avg_pool2d", "adaptive_avg_pool1d")
def adaptive_avg_pool(call: Call) -> Row:
    """1 add an element of each window, 1 divide an output element."""
    y = call.outputs[0]
    flops = _window_elements(call.inputs[0], y, _dimensions(call)) + y.numel
    return Row("pool", flops, touched(call.inputs), touched(call.written))


@rule("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "mkldnn_adaptive_avg_pool2d_backward")
def adaptive_avg_pool_backward(call: Call) -> Row:
    """1 divide an element of dy, 1 add an element of each window. Reads dy, not x; writes the full map."""
    dy, dx = call.inputs[0], call.outputs[0]
    flops = _window_elements(dx, dy, _dimensions(call)) + dy.numel
    return Row("pool", flops, dy.touched_bytes, touched(call.written))
