"""What a multiply-accumulate unit of each precision takes of an FPGA, and how many narrow MACs it can do at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwmodels.numbers import Number

_ZHANG = "Zhang et al., FPGA 2015, as in public reading notes [page not named]"
_SHARE = "less what Xilinx/finn@39f0c9a6 src/finn/util/platforms.py takes for a memory controller"


@dataclass(frozen=True)
class Operator:
    """A MAC unit of words of `bits` bits: DSPs, LUTs and flip-flops it takes.

    `packing` maps operand bits to the MACs that one unit does a clock where neither operand is wider. What is
    not packed runs one MAC a clock.
    """

    bits: int
    dsp: Number
    lut: Number
    ff: Number
    packing: Mapping[int, Number]


def _recalled(value: float, what: str) -> Number:
    return Number(value, "", "assumed", f"{what}; recalled")


OPERATORS: Mapping[str, Operator] = {
    "float32": Operator(
        32,
        Number(5, "", "measured", f"2240 DSP / (64 x 7 MAC units), {_ZHANG}"),
        Number(341, "", "fitted", f"(186,251 - 33,256) LUT / 448 MAC units, {_ZHANG}, {_SHARE}"),
        Number(359, "", "fitted", f"(205,704 - 44,889) FF / 448 MAC units, {_ZHANG}, {_SHARE}"),
        {},
    ),
    "float16": Operator(
        16,
        _recalled(4, "2 for the multiplier, 2 for the adder (Vivado HLS)"),
        Number(170, "", "assumed", "half of float32: half the word"),
        Number(180, "", "assumed", "half of float32: half the word"),
        {},
    ),
    "int16": Operator(
        16,
        _recalled(1, "one DSP48 multiplies 25 x 18 bits"),
        Number(60, "", "assumed", "routing and control of a 16-bit lane; no report read"),
        Number(90, "", "assumed", "operand and result registers of a 16-bit lane; no report read"),
        {
            8: _recalled(2, "two int8 products that share an operand in one DSP (Xilinx WP486)"),
            4: _recalled(4, "four int4 products in one DSP (Xilinx WP521)"),
        },
    ),
    "int8": Operator(
        8,
        _recalled(0.5, "two int8 products that share an operand in one DSP (Xilinx WP486)"),
        Number(40, "", "assumed", "routing and control of an 8-bit lane; no report read"),
        Number(60, "", "assumed", "operand and result registers of an 8-bit lane; no report read"),
        {4: _recalled(2, "four int4 products in one DSP (Xilinx WP521), two for each int8 unit")},
    ),
}
"""The precisions a design may have. An engine of whole numbers trains in fixed point: float operands of the
graph are words of its width on it."""
