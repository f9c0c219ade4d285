"""Networks of Accel-NASBench's MnasNet space (afzalxo/Accel-NASBench@4260357) as a DPU executes them.

Seven stages of inverted residual blocks, 3x224x224; a row of the table gives each stage its expansion, filter, number
of blocks and whether they squeeze and excite, with a quarter of the block's input channels. Batch norm and ReLU are
part of the convolution before them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from boards_dpu import ALU_PIXELS, BANK_BYTES, CHANNELS, PIXELS
from boards_rows import Rows

from simulator.work import KERNELS, Floats, Work

WIDTHS, STRIDES = (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 2, 1, 2, 1)
"""Output channels and first stride of the stages."""
STEM, HEAD, CLASSES, SIDE = 32, 1280, 1000, 224
COLUMNS = ("network", "dense clocks", "depthwise clocks", "weights", "squeezed channels", "elements in banks",
           "elements beyond", "elements of the largest maps beyond")  # fmt: skip


def ops(rows: Rows, row: Mapping[str, str]) -> list[int]:
    """Return the ops of the network of a row of the table."""
    side, channels = SIDE // 2, STEM
    found = [rows.convolution(3, STEM, (side, side), 3, stride=2)]
    for stage, (width, first) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        expand, kernel, count = (int(row[f"block{stage}_{name}"]) for name in "ekl")
        for i in range(count):
            stride = first if i == 0 else 1
            squeezed = channels // 4 if row[f"block{stage}_se"] == "True" else 0
            found += _block(rows, channels, width, side, stride, expand, kernel, squeezed)
            side, channels = side // stride, width
    last = rows.convolution(channels, HEAD, (side, side), 1)
    return [*found, last, rows.mean(HEAD, (side, side)), rows.linear(HEAD, CLASSES)]


def _block(
    rows: Rows, inputs: int, outputs: int, side: int, stride: int, expand: int, kernel: int, squeezed: int
) -> list[int]:
    inner, size = inputs * expand, (side // stride, side // stride)
    found = [rows.convolution(inputs, inner, (side, side), 1)] if expand > 1 else []
    found.append(rows.convolution(inner, inner, size, kernel, stride, groups=inner))
    if squeezed:
        found += [
            rows.mean(inner, size),
            rows.convolution(inner, squeezed, (1, 1), 1),
            rows.convolution(squeezed, inner, (1, 1), 1),
            rows.elementwise("sigmoid", [(inner, 1, 1)]),
            rows.elementwise("mul", [(inner, *size), (inner, 1, 1)]),
        ]
    found.append(rows.convolution(inner, outputs, size, 1))
    if stride == 1 and inputs == outputs:
        found.append(rows.elementwise("add", [(outputs, *size)] * 2))
    return found


def columns(work: Work) -> list[float]:
    """Return the numbers of `COLUMNS` of a network: what a DPU's time is a sum of."""
    nest, of_kernel = work.nest, [KERNELS[code] for code in work.kernel]
    g, k, c, p, q = (nest[name] for name in "gkcpq")
    taps = nest["r"] * nest["s"]
    dense, depthwise, pooled = (np.array([name == what for name in of_kernel]) for what in
                                ("convolution", "depthwise", "reduction"))  # fmt: skip
    elements = work.read_bytes / 4.0
    side = np.sqrt(work.read_bytes / np.maximum(work.written_bytes, 1.0))
    beyond = elements > BANK_BYTES
    found: tuple[Floats, ...] = (
        dense * np.ceil(c / CHANNELS) * np.ceil(k / CHANNELS) * p * np.ceil(q / PIXELS) * taps,
        depthwise * np.ceil(g / CHANNELS) * p * np.ceil(q / ALU_PIXELS) * taps,
        (dense | depthwise) * g * k * c * taps,
        pooled * work.written_bytes / 4.0,
        pooled * elements * ~beyond,
        pooled * elements * beyond,
        pooled * elements * beyond * (side >= SIDE / 2),
    )
    return [1.0, *(float(work.total(column)) for column in found)]
