"""What a convolution module does with its arguments before it convolves, for twins that convolve in their own way."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from simulator.errors import TrainwattError


def prepared(
    conv: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, technique: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, tuple[int, ...]]:
    """Return the operands and the padding that `conv._conv_forward(x, weight, bias)` convolves with.

    Padding other than with zeros is put around x; under autocast all are cast. Raises `TrainwattError`, naming
    `technique`, where padding differs between the two sides.
    """
    padding = conv.padding
    if conv.padding_mode != "zeros":
        x = nn.functional.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
        padding = (0,) * len(conv.stride)
    elif isinstance(padding, str):
        before, after = (conv._reversed_padding_repeated_twice[i::2][::-1] for i in (0, 1))
        if before != after:
            raise TrainwattError(f"{technique} on a convolution of padding {padding!r}; give both sides the same")
        padding = before
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    return x, weight, bias, tuple(padding)
