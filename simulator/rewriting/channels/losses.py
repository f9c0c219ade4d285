"""Dimensions of losses over class numbers. Where a loss counts as one, its classes are fixed before a rule is asked."""

from __future__ import annotations

from simulator.graph import Op
from simulator.rewriting.channels.walk import Walk, rule


@rule("nll_loss_forward")
def nll_loss(walk: Walk, index: int, op: Op) -> None:
    """Log-probabilities (N, K) and labels (N) give numbers without dimensions."""
    for tensor in op.outputs:
        walk.give(tensor, [])


@rule("nll_loss_backward")
def nll_loss_backward(walk: Walk, index: int, op: Op) -> None:
    """The gradient is laid out as the log-probabilities."""
    walk.give(op.outputs[0], walk.of(op.inputs[1]))
