"""Normalisations. FLOPs are counted per element of x; what is per channel or per row is left out.

Batch norm in training needs the statistics of the whole batch before it can normalise, so it passes over its
data twice: forward over x, backward over x and dy. A row of layer norm or group norm stays in cache: one
pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simulator.rules import rule
from simulator.rules.counting import touched
from simulator.work import Call, Row

STATISTICS = 4
"""Mean and variance: add; subtract, square, add."""
NORMALISE = 2
"""y = x * a + b with scale and shift folded into one pair per channel."""
SUMS_BACKWARD = 4
"""sum(dy): add; sum(dy (x - mean)): subtract, multiply, add. They are db and dw at once."""
NORMALISE_BACKWARD = 5
"""dx = (dy - (x - mean) k - mean(dy)) * invstd * w: subtract, multiply, subtract, subtract, multiply."""

ROW_NORMS: Mapping[str, int] = MappingProxyType(
    {
        "native_layer_norm": 8,  # statistics 4; (x - mean) * rstd; * w + b
        "native_layer_norm_backward": 13,  # xhat 2; g = dy w; sums of g, g xhat 3; dx 4; dw, db 3
        "native_group_norm": 6,  # statistics 4; x * a + b
        "native_group_norm_backward": 7,  # sums of dy and of dy x 3; dy a + x b + c 4; dw, db from the sums
        "_fused_rms_norm": 4,  # square, add; * rstd, * w
        "_fused_rms_norm_backward": 9,  # xhat 1; g = dy w 1; sum g xhat 2; rstd (g - xhat b) 3; dw 2
        "_weight_norm_interface": 3,  # square, add; v * (g / norm)
        "_weight_norm_interface_backward": 5,  # sum dw v 2; (dw - v a) b 3
    }
)
"""FLOPs per element, by kind, of norms that read each operand once."""


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
)
def batch_norm(call: Call) -> Row:
    """Training: 6 FLOPs an element, x read twice. Evaluation: 2 FLOPs an element, x read once."""
    x = call.inputs[0]
    training = call.attrs.get("training", call.kind == "_batch_norm_with_update")
    again: Any = x.touched_bytes if training else 0
    flops = (STATISTICS + NORMALISE if training else NORMALISE) * x.numel
    return Row("norm", flops, touched(call.inputs) + again, touched(call.written))


@rule(
    "native_batch_norm_backward",
    "batch_norm_backward",
    "cudnn_batch_norm_backward",
    "miopen_batch_norm_backward",
)
def batch_norm_backward(call: Call) -> Row:
    """Training: 9 FLOPs an element, x and dy read twice.

    With fixed statistics (`train` false), dx = dy * invstd * w needs no sums: 5 FLOPs an element, x and dy
    read once. Without dx (`output_mask`): the sums only.
    """
    dy, x = call.inputs[0], call.inputs[1]
    training = call.attrs.get("train", call.attrs.get("update", True))
    input_wanted = call.attrs.get("output_mask", (True, True, True))[0]
    per_element, again = SUMS_BACKWARD, 0
    if input_wanted and training:
        per_element += NORMALISE_BACKWARD
        again = dy.touched_bytes + x.touched_bytes
    elif input_wanted:
        per_element += 1
    return Row("norm", per_element * x.numel, touched(call.inputs) + again, touched(call.written))


@rule(*ROW_NORMS)
def row_norm(call: Call) -> Row:
    """FLOPs = `ROW_NORMS` x elements of x (or dy); each operand read once, each result written once."""
    return Row("norm", ROW_NORMS[call.kind] * call.inputs[0].numel, touched(call.inputs), touched(call.written))
