"""Memory that the kernels of convolutions take beside their operands, by the algorithm that `convolution` chooses.

    Winograd               `convolution.winograd_bytes`, of m = 2 in forward passes
    implicit GEMM          4 * c * r * s                offsets of the taps of each channel
    sum split in s         4 * s * results              partial sums, for s > 1

All within the workspace that the chip allows. Forward passes are taken to transform within the kernel, also where
F(4x4, 3x3) tells their time: with operands written out there, a replayed step finds large free blocks from the first
layers on, and reserves far less than was measured on a Jetson TX2 (docs/gpu-model.md).
"""

from __future__ import annotations

import numpy as np

from hwmodels.gpu import convolution, tiles
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.pricing import convolution_rows, seconds
from simulator.graph import Graph
from simulator.work import KERNELS, Ints, Work, work_of

_CONVOLUTION = KERNELS.index("convolution")
_OFFSET_BYTES = 4.0


def workspace_bytes(chip: Chip, graph: Graph) -> Ints:
    """Return the workspace of each op, in bytes, shape (ops,)."""
    work = work_of(graph, unknown="list")
    return workspace_rows(chip, work)[work.row_of_op]


def workspace_rows(chip: Chip, work: Work) -> Ints:
    """Return the workspace of each row of `work`, in bytes, shape (rows,) or (rows, points)."""
    rows = np.flatnonzero(work.kernel == _CONVOLUTION)
    of_row = np.zeros(work.macs.shape)
    if rows.size:
        found, some = seconds(chip, work), convolution_rows(chip, work, rows)
        m, n, _ = convolution.sizes(some.nest, some.part)
        partial = tiles.partial_bytes(found.kernel[rows], some.nest["g"] * m * n)
        by_gemm = _OFFSET_BYTES * some.nest["c"] * some.nest["r"] * some.nest["s"] + partial
        algorithm = found.algorithm[rows]
        gradient = np.isin(some.part, (convolution.INPUT, convolution.WEIGHT))
        written_out = (algorithm == 2) & (gradient if algorithm.ndim == 1 else gradient[:, None])
        by_winograd = np.where(written_out, convolution.winograd_bytes(some, 4), convolution.winograd_bytes(some, 2))
        of_row[rows] = np.minimum(np.where(algorithm == 0, by_gemm, by_winograd), chip.workspace_bytes)
    return np.ceil(of_row).astype(np.int64)
