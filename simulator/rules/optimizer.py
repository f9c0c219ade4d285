"""Fused optimizer steps and gradient scaling. The step as single ops (`_foreach_addcmul_`) is in
elementwise.py.

FLOPs per element of all parameters; what is per tensor (bias corrections) is left out.
"""

from __future__ import annotations

from simulator.rules import rule
from simulator.rules.counting import elements, equals, touched
from simulator.work import Call, Row


def _row(call: Call, per_element: int, lists: int) -> Row:
    """The row of a fused step over `lists` operand lists of equal length: parameters, gradients, states.

    At most 3 single tensors (rate, gradient scale, flag) follow the lists. The schema declares the gradients
    written, but only a gradient scale makes the step write them.
    """
    parameters = (len(call.inputs) - _singles(call)) // lists
    gradients = call.inputs[parameters : 2 * parameters]
    scaled = "grad_scale" not in call.attrs
    unwritten = 0 if scaled else touched(gradients)
    return Row(
        "elementwise",
        per_element * elements(call.inputs[:parameters]),
        touched(call.inputs),
        touched(call.written) - unwritten,
    )


def _singles(call: Call) -> int:
    """Return how many single tensors follow the lists: an argument that is a tensor is not in `attrs`."""
    return sum(name not in call.attrs for name in ("lr", "grad_scale", "found_inf"))


def _decay(call: Call, flops: int) -> int:
    """Return the FLOPs of weight decay (+ 1 where the gradient is negated to maximise)."""
    decay = 0 if equals(call.attrs.get("weight_decay", 0), 0) else flops
    return decay + bool(call.attrs.get("maximize", False))


@rule("_fused_adam_", "_fused_adamw_")
def fused_adam(call: Call) -> Row:
    """Adam (Kingma and Ba 2015), 13 FLOPs an element: m = m + (1 - b1)(g - m) 3; v = b2 v + (1 - b2) g g 4;
    sqrt(v) / c + eps 3; p -= a m / that 3. + 1 (max) for amsgrad, + 2 for weight decay into g, or + 1
    decoupled (AdamW, Loshchilov and Hutter 2019). Reads p, g, m, v (and max v), writes p, m, v (and max
    v).
    """
    amsgrad = bool(call.attrs.get("amsgrad", False))
    decay = _decay(call, 1 if call.kind == "_fused_adamw_" else 2)
    return _row(call, 13 + amsgrad + decay, 6 if amsgrad else 5)


@rule("_fused_sgd_")
def fused_sgd(call: Call) -> Row:
    """p -= lr g 2; + 2 for weight decay; + 3 for momentum (b = mu b + (1 - d) g; 2 where d = 0), + 2 for
    nesterov.
    """
    attrs = call.attrs
    flops = 2 + _decay(call, 2)
    momentum = not equals(attrs.get("momentum", 0), 0)
    if momentum:
        flops += 2 if equals(attrs.get("dampening", 0), 0) else 3
        flops += 2 if attrs.get("nesterov") else 0
    return _row(call, flops, 3 if momentum else 2)


@rule("_fused_adagrad_")
def fused_adagrad(call: Call) -> Row:
    """s += g g 2; p -= lr g / (sqrt(s) + eps) 5 (Duchi et al. 2011); + 2 for weight decay."""
    return _row(call, 7 + _decay(call, 2), 4)


@rule("_amp_foreach_non_finite_check_and_unscale_")
def unscale(call: Call) -> Row:
    """g = g / scale with a test for infinities: 2 FLOPs an element of the gradients (all operands but the
    last two).
    """
    gradients = call.inputs[:-2]
    return Row("elementwise", 2 * elements(gradients), touched(call.inputs), touched(call.written))


@rule("_amp_update_scale_")
def update_scale(call: Call) -> Row:
    """Three scalars: compare, count, multiply."""
    return Row("elementwise", 3, touched(call.inputs), touched(call.written))
