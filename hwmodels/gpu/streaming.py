"""Kernels that stream: elementwise, norms, pools, reductions, copies; and depthwise convolutions, which reuse nothing.

    compute = F / (P/2)                                           no fused multiply-add: half of the peak
    L2      = B / L2 rate
    DRAM    = B * min(max(B/C - 1, 0), 1) / reached bandwidth     C: size of the L2 cache

A working set of B bytes that fits into the L2 cache is found there, as the op before has left it; one of twice its size
streams past it.

A depthwise convolution is a loop over taps for each element, in kernels of PyTorch's own. Per element it finds its
place in the tensor by three divisions; per tap it checks the bounds and loads two operands for one multiply-add. The
gradient of the weights sums over all images and positions in one block per tap and channel, which finds the place anew
for every product, and reads both operands once per tap:

    slots   = taps*n*g*k*p*q * PER_TAP + elements * PER_ELEMENT   forward (elements: outputs), input (elements: inputs)
    slots   = MACs * (PER_TAP + PER_PRODUCT)                      weight
    compute = slots / (cores * clock)
    L2      = read * r + written                                  weight: read * r * s + written

Pooling is such a loop too: slots = F * PER_TAP + written elements * PER_ELEMENT.

The slots are instruction counts of these loops, written out, not fitted.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwmodels.gpu.chip import Chip
from hwmodels.gpu.convolution import INPUT, WEIGHT
from simulator.work import Floats, Ints

PER_TAP = 12.0
"""Slots a tap: two coordinates (2 multiply-adds), four comparisons, two addresses, two loads, the product, the loop."""
PER_ELEMENT = 90.0
"""Slots an element: three divisions with remainder of about 25 instructions each, a store, the block's start."""
PER_PRODUCT = 50.0
"""Slots a product of the weight gradient: two divisions with remainder of about 25 instructions each."""
_ITEM_BYTES = 4.0


def missed_bytes(chip: Chip, traffic: Floats) -> Floats:
    """Return what of a working set of so many bytes comes from or goes to DRAM."""
    missed: Floats = traffic * np.clip(traffic / chip.l2_bytes - 1.0, 0.0, 1.0)
    return missed


def depthwise_slots(nest: Mapping[str, Floats], part: Ints) -> Floats:
    """Return the issue slots of depthwise convolutions, in the shape of the columns of `nest`; `part` is (rows,)."""
    part = part if nest["n"].ndim == 1 else part[:, None]
    taps = nest["r"] * nest["s"] * nest["c"]
    outputs = nest["n"] * nest["g"] * nest["k"] * nest["p"] * nest["q"]
    inputs = nest["n"] * nest["g"] * nest["c"] * nest["p"] * nest["q"] * nest["stride_h"] * nest["stride_w"]
    elements = np.where(part == INPUT, inputs, outputs)
    looped = outputs * taps * PER_TAP
    return np.where(part == WEIGHT, looped + outputs * taps * PER_PRODUCT, looped + elements * PER_ELEMENT)


def depthwise_l2_bytes(nest: Mapping[str, Floats], part: Ints, read: Floats, written: Floats) -> Floats:
    """Return what depthwise convolutions move to and from the L2 cache."""
    part = part if nest["n"].ndim == 1 else part[:, None]
    rows: Floats = np.where(part == WEIGHT, nest["r"] * nest["s"], nest["r"])
    return read * rows + written


def pool_slots(flops: Floats, written: Floats) -> Floats:
    """Return the issue slots of pooling kernels that compare or add `flops` times and write so many bytes."""
    return flops * PER_TAP + written / _ITEM_BYTES * PER_ELEMENT
