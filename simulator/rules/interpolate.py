"""Resampling. A weighted sum of t taps is t products and t - 1 adds; backward scatters with t products and t
adds.

The weights depend on one coordinate only and are left out. Each operand is read once: taps overlap in cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from simulator.rules import rule
from simulator.rules.counting import touched
from simulator.work import Call, Operand, Row

TAPS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys((f"upsample_nearest{n}d" for n in (1, 2, 3)), 1),
        **dict.fromkeys((f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)), 1),
        "upsample_linear1d": 2,
        "upsample_bilinear2d": 4,
        "upsample_trilinear3d": 8,
        "upsample_bicubic2d": 16,
    }
)
"""Input elements that make one output element."""

ANTIALIASED: Mapping[str, int] = MappingProxyType({"_upsample_bilinear2d_aa": 1, "_upsample_bicubic2d_aa": 2})
"""Half the width of the filter, in pixels of the coarser grid."""


@rule(*TAPS)
def upsample(call: Call) -> Row:
    """2 taps - 1 FLOPs an output element; none for nearest, which copies."""
    taps = TAPS[call.kind]
    flops = (2 * taps - 1 if taps > 1 else 0) * call.outputs[0].numel
    return Row("interpolate", flops, touched(call.inputs), touched(call.written))


@rule(*(f"{kind}_backward" for kind in TAPS))
def upsample_backward(call: Call) -> Row:
    """2 taps FLOPs an element of dy; 1 (an add) for nearest. Reads dy, writes dx once."""
    taps = TAPS[call.kind.removesuffix("_backward")]
    flops = (2 * taps if taps > 1 else 1) * call.inputs[0].numel
    return Row("interpolate", flops, touched(call.inputs), touched(call.written))


def _antialiased_taps(coarse: Any, fine: Any, half_width: int) -> Any:
    """Return the taps of one dimension: the filter is as wide as the coarser grid, but never narrower than
    the finer.
    """
    return 2 * half_width * np.maximum(coarse / fine, 1)


def _separable(x: Operand, y: Operand, half_width: int) -> Any:
    """Return taps along a row, for every row of x, plus taps along a column, for every output element."""
    across = _antialiased_taps(x.shape[-1], y.shape[-1], half_width)
    down = _antialiased_taps(x.shape[-2], y.shape[-2], half_width)
    return y.numel / y.shape[-2] * x.shape[-2] * across + y.numel * down


@rule(*ANTIALIASED)
def upsample_antialiased(call: Call) -> Row:
    """Two passes, first along rows and then along columns, of 2 FLOPs a tap; the filter widens where it
    shrinks x.
    """
    flops = 2 * _separable(call.inputs[0], call.outputs[0], ANTIALIASED[call.kind])
    return Row("interpolate", flops, touched(call.inputs), touched(call.written))


@rule(*(f"{kind}_backward" for kind in ANTIALIASED))
def upsample_antialiased_backward(call: Call) -> Row:
    """The same taps as forward, scattered: 2 FLOPs a tap."""
    dy, dx = call.inputs[0], call.outputs[0]
    flops = 2 * _separable(dx, dy, ANTIALIASED[call.kind.removesuffix("_backward")])
    return Row("interpolate", flops, touched(call.inputs), touched(call.written))


@rule("grid_sampler_2d", "grid_sampler_3d")
def grid_sample(call: Call) -> Row:
    """Bilinear (4 taps, 7 FLOPs) or trilinear (8 taps, 15 FLOPs) an output element.

    Reads x and the grid once.
    """
    taps = 4 if call.kind == "grid_sampler_2d" else 8
    return Row("interpolate", (2 * taps - 1) * call.outputs[0].numel, touched(call.inputs), touched(call.written))


@rule("grid_sampler_2d_backward", "grid_sampler_3d_backward")
def grid_sample_backward(call: Call) -> Row:
    """dx: 2 FLOPs a tap; the gradient of the grid as much again for each element of dy."""
    taps = 4 if call.kind == "grid_sampler_2d_backward" else 8
    return Row("interpolate", 4 * taps * call.inputs[0].numel, touched(call.inputs), touched(call.written))
