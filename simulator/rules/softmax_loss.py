"""Softmax and the losses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simulator.rules import rule
from simulator.rules.counting import equals, touched
from simulator.work import Call, Row

SOFTMAX: Mapping[str, int] = MappingProxyType(
    {
        "_softmax": 5,  # max; subtract, exp, sum; divide
        "_safe_softmax": 5,
        "_masked_softmax": 6,
        "_log_softmax": 5,  # max; subtract, exp, sum; subtract
        "_softmax_backward_data": 4,  # sum(dy y): multiply, add; y (dy - sum): subtract, multiply
        "_masked_softmax_backward": 4,
        "_log_softmax_backward_data": 4,  # sum(dy): add; dy - exp(y) sum: exp, multiply, subtract
    }
)
"""FLOPs per element; a row stays in cache, so it is read once."""

LOSSES: Mapping[str, int] = MappingProxyType(
    {
        "mse_loss": 2,  # (x - t)^2
        "smooth_l1_loss": 6,  # z = |x - t|, compare, z z / 2 beta
        "huber_loss": 6,
        "binary_cross_entropy": 9,  # (t - 1) max(log1p(-x), -100) - t max(log(x), -100)
        "binary_cross_entropy_with_logits": 9,  # (1 - t) x - (min(x, 0) - log1p(exp(-|x|)))
        "soft_margin_loss": 4,  # log1p(exp(-x t))
        "multi_margin_loss": 3,  # max(0, margin - x[t] + x)
    }
)
"""FLOPs per element before the sum over all elements, which adds 1."""

LOSSES_BACKWARD: Mapping[str, int] = MappingProxyType(
    {
        "mse_loss_backward": 3,  # (x - t) * norm * dy
        "smooth_l1_loss_backward": 6,  # x - t, two compares, / beta, * norm, * dy
        "huber_loss_backward": 6,
        "binary_cross_entropy_backward": 7,  # dy (x - t) / max((1 - x) x, eps) * norm
        "soft_margin_loss_backward": 7,  # z = exp(-x t); -t z / (1 + z) * norm * dy
        "multi_margin_loss_backward": 4,
    }
)
"""FLOPs per element of the gradient."""

_CTC_STATE = 13
"""FLOPs of one step of the forward variable of CTC (Graves et al. 2006): log-sum-exp of three, plus log p."""


@rule(*SOFTMAX)
def softmax(call: Call) -> Row:
    """FLOPs = `SOFTMAX` x elements; each operand read once, the result written once."""
    return Row("softmax", SOFTMAX[call.kind] * call.inputs[0].numel, touched(call.inputs), touched(call.written))


@rule(*LOSSES)
def loss(call: Call) -> Row:
    """FLOPs = (`LOSSES` + 1 unless `reduction` is none) x elements of the prediction."""
    per_element = LOSSES[call.kind] + (0 if equals(call.attrs.get("reduction", 1), 0) else 1)
    return Row("reduction", per_element * call.inputs[0].numel, touched(call.inputs), touched(call.written))


@rule(*LOSSES_BACKWARD)
def loss_backward(call: Call) -> Row:
    """FLOPs = `LOSSES_BACKWARD` x elements of the gradient."""
    flops = LOSSES_BACKWARD[call.kind] * call.outputs[0].numel
    return Row("elementwise", flops, touched(call.inputs), touched(call.written))


@rule("nll_loss_forward", "nll_loss2d_forward")
def nll_loss(call: Call) -> Row:
    """loss = -sum of w[t] x[n, t] / sum of w[t]: 2 FLOPs a target (3 with class weights).

    Reads the targets and one element of x a target, not all of x.
    """
    x, targets = call.inputs[0], call.inputs[1]
    weights = call.inputs[2:3]
    picked = targets.numel * x.item_bytes
    flops = (2 + len(weights)) * targets.numel
    return Row("gather", flops, targets.touched_bytes + picked + touched(weights), touched(call.written))


@rule("nll_loss_backward", "nll_loss2d_backward")
def nll_loss_backward(call: Call) -> Row:
    """dx[n, t] = -dy w[t] / total: 2 FLOPs a target.

    Reads all but x, writes the full map (zeros elsewhere).
    """
    dy, targets = call.inputs[0], call.inputs[2]
    return Row("gather", 2 * targets.numel, dy.touched_bytes + touched(call.inputs[2:]), touched(call.written))


@rule("_ctc_loss")
def ctc_loss(call: Call) -> Row:
    """13 FLOPs a state (time x (2 labels + 1)); reads log p and labels, writes the loss and all states."""
    states = call.outputs[1].numel
    return Row("reduction", _CTC_STATE * states, touched(call.inputs), touched(call.written))


@rule("_ctc_loss_backward")
def ctc_loss_backward(call: Call) -> Row:
    """The backward variable and its meeting with the forward one, 2 x 13 FLOPs a state, then 3 FLOPs a
    gradient.
    """
    states: Any = call.inputs[-1].numel
    flops = 2 * _CTC_STATE * states + 3 * call.outputs[0].numel
    return Row("reduction", flops, touched(call.inputs), touched(call.written))
