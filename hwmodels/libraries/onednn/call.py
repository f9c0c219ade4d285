"""An op as these rules see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.work import Operand


@dataclass(frozen=True)
class Call:
    """An op with its operands at the graph's sizes. Several graph ops may be parts of one PyTorch op.

    `forward` are the operands of the op that it differentiates (none where that is not known). Of the parts of a
    convolution's backward, `with_weight` and `with_bias` tell whether those of weight and bias belong to the same op.
    """

    kind: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    attrs: Mapping[str, Any]
    forward: tuple[Operand, ...] = ()
    with_weight: bool = False
    with_bias: bool = False


def is_contiguous(operand: Operand, order: Sequence[int] | None = None) -> bool:
    """Tell whether the elements lie densely with dimensions in `order`, slowest first; those of size 1 do not count."""
    expected = 1
    for dim in reversed(order or range(len(operand.shape))):
        if operand.shape[dim] != 1:
            if operand.stride[dim] != expected:
                return False
            expected *= operand.shape[dim]
    return True
