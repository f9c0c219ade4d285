"""Memory that the kernels of convolutions take beside their operands, by the algorithm that `convolution` chooses.

    Winograd               `convolution.winograd_bytes`
    implicit GEMM          4 * c * r * s                offsets of the taps of each channel
    sum split in s         4 * s * results              partial sums, for s > 1

All within the workspace that the chip allows.
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
        by_winograd = np.where(algorithm == 1, convolution.winograd_bytes(some, 2), convolution.winograd_bytes(some, 4))
        of_row[rows] = np.minimum(np.where(algorithm == 0, by_gemm, by_winograd), chip.workspace_bytes)
    return np.ceil(of_row).astype(np.int64)
