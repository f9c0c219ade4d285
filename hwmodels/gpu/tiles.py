r"""Matrix products cut into tiles, in waves over the SMs.

`batch` products of (M x K) by (K x N), each cut into tiles of tm x tn results, the sum split into s parts:

    tiles     T = batch * ceil(M/tm) * ceil(N/tn) * s
    depth     D = 8 * ceil(ceil(K/s) / 8) + fill
    share     e = pipeline * tm*tn / (tm*tn + staging * (tm + tn))
    one tile  t = 2 * tm*tn * D / (FLOP per cycle of an SM * e)         cycles
    compute     = t * max(ceil(T / SMs), 256 / threads)                 256 threads fill an SM, a tile of fewer does not
    L2          = T * (tm + tn) * D * item + 2 * (s > 1) * s * results * 4 + results * item
    DRAM        = min over the order of tiles of A * passes(A) + B * passes(B) + results + partial sums

An operand is passed over once for each group of tiles that is in flight (two an SM), unless the part of it that one
split uses fits into half of the L2 cache. The tile and the split that are fastest are taken, as libraries choose among
kernels, among those whose partial sums are within the workspace; a larger tile stages less and fills the SMs worse.
All of it grows with M, N, K, and falls with SMs and clock.
[Kerr et al., "CUTLASS", 2017, for tiles and split sums; Williams et al., "Roofline", 2009]
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hwmodels.gpu.chip import Chip
from simulator.work import Floats, Ints

TILES = (
    (128, 128, 256),
    (128, 64, 128),
    (64, 128, 128),
    (64, 64, 64),
    (128, 32, 128),
    (32, 128, 128),
    (32, 32, 64),
)
"""Rows and columns of a tile, and the threads that compute it."""
SPLITS = (1, 4, 16, 64)
"""Parts that the summed loop may be split into."""

_GRID = np.array([(*tile, split) for split in SPLITS for tile in TILES], dtype=np.float64)
_NARROW = _GRID[:, :2].min(axis=1) == 32
_SMALL = _GRID[:, :2].max(axis=1) == 32
PRODUCTS: Ints = np.flatnonzero(~_SMALL)
"""Kernels of matrix products and implicit GEMM: rows of the grid of tiles and splits."""
WEIGHTS: Ints = np.flatnonzero(~_NARROW)
"""Kernels of gradients of weights: none is narrow, as the sum is long whatever the channels."""
WINOGRAD: Ints = np.flatnonzero(_SMALL & (_GRID[:, 3] == 1))
"""The kernel of a Winograd convolution that transforms on the way: its 16 tiles in shared memory are small ones."""
_FULL_SM = 256
_STEP = 8
_IN_FLIGHT = 2
_PARTIAL_BYTES = 4


class Products(NamedTuple):
    """Matrix products to be made: columns of one shape. `a_bytes`, `b_bytes`, `out_bytes` are compulsory traffic."""

    m: Floats
    n: Floats
    k: Floats
    batch: Floats
    item_bytes: Floats
    flop_per_cycle: Floats
    a_bytes: Floats
    b_bytes: Floats
    out_bytes: Floats


_AT_ONCE = 32768
"""Kernels x rows x points that are compared at once: a column of them takes 256 KiB."""


class Times(NamedTuple):
    """What the chosen kernel takes: seconds by limit, bytes from DRAM, and the row of the grid of kernels."""

    compute_s: Floats
    l2_s: Floats
    dram_s: Floats
    dram_bytes: Floats
    kernel: Ints

    @property
    def busy_s(self) -> Floats:
        return np.maximum(np.maximum(self.compute_s, self.l2_s), self.dram_s)


def kernel_name(kernel: int) -> str:
    """Return the tile and the split of a row of the grid, as text."""
    tm, tn, _, split = _GRID[kernel].astype(int)
    return f"{tm}x{tn} tiles" + (f", sum split in {split}" if split > 1 else "")


def tile_counts(kernel: int, m: float, n: float, k: float, batch: float) -> tuple[int, int, int]:
    """Return the tiles of one kernel, the steps of the sum in each, and the threads of each."""
    tm, tn, threads, split = _GRID[kernel]
    tiles = batch * np.ceil(m / tm) * np.ceil(n / tn) * split
    return int(tiles), int(_STEP * np.ceil(np.ceil(k / split) / _STEP)), int(threads)


def times(
    chip: Chip,
    work: Products,
    kernels: Ints = PRODUCTS,
    extra_flops: Floats | float = 0.0,
    extra_bytes: Floats | float = 0.0,
) -> Times:
    """Return what the fastest kernel takes for each of the products, same shape as their columns.

    `extra_flops` run on the cores beside the products, and `extra_bytes` go through DRAM beside them (transforms).
    Many points are priced a few at a time, so that what is compared stays in the cache.
    """
    shape = np.shape(work.m)
    many = len(shape) == 2 and len(kernels) * shape[0] * shape[1] > _AT_ONCE
    if not many:
        return _times(chip, work, kernels, extra_flops, extra_bytes)
    columns = [np.broadcast_to(column, shape) for column in (*work, extra_flops, extra_bytes)]
    points = max(1, _AT_ONCE // (len(kernels) * shape[0]))
    parts = []
    for start in range(0, shape[1], points):
        *operands, flops, moved = (column[:, start : start + points] for column in columns)
        parts.append(_times(chip, Products(*operands), kernels, flops, moved))
    return Times(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True)))


def _times(
    chip: Chip, work: Products, kernels: Ints, extra_flops: Floats | float, extra_bytes: Floats | float
) -> Times:
    tm, tn, threads, split = _GRID[kernels].T
    m, n, k, batch, item, rate, a, b, out = (np.asarray(column)[..., None] for column in work)
    rows, columns = np.ceil(m / tm), np.ceil(n / tn)
    tiles = batch * rows * columns * split
    depth = _STEP * np.ceil(np.ceil(k / split) / _STEP)
    area, edge = tm * tn, tm + tn
    share = chip.pipeline * area / (area + chip.staging_slots * edge)
    cycles = (2.0 * area / share) * (depth + chip.fill_steps) / rate
    compute = cycles * np.maximum(np.ceil(tiles / chip.units), _FULL_SM / threads) / chip.clock_hz
    compute += np.asarray(extra_flops)[..., None] * (2.0 / (chip.vector_rate("float32") * chip.cycles_per_s))

    held_apart = np.where(split > 1, _PARTIAL_BYTES * split * batch * m * n, 0.0)
    partial = 2.0 * held_apart
    l2 = (tiles * depth * edge * item + partial + batch * m * n * item) / chip.l2_byte_per_s

    held = chip.l2_bytes / 2
    flying = float(_IN_FLIGHT * chip.units)
    again_b = np.where(b <= held * split * batch, 1.0, np.maximum(np.ceil(rows / flying), 1.0))
    again_a = np.where(a <= held * split * batch, 1.0, np.maximum(np.ceil(columns / flying), 1.0))
    spilled = np.where(partial <= chip.l2_bytes, 0.0, partial)
    traffic = np.minimum(a * again_a + b, a + b * again_b) + out + spilled + np.asarray(extra_bytes)[..., None]
    dram = traffic / chip.dram_reached

    busy = np.where(held_apart <= chip.workspace_bytes, np.maximum(np.maximum(compute, l2), dram), np.inf)
    best = np.argmin(busy, axis=-1)

    def chosen(values: Floats) -> Floats:
        found: Floats = np.take_along_axis(values, best[..., None], axis=-1)[..., 0]
        return found

    return Times(chosen(compute), chosen(l2), chosen(dram), chosen(traffic), kernels[best])


def partial_bytes(kernels: Ints, results: Floats) -> Floats:
    """Return what the partial sums of each kernel take, for so many results."""
    split = _GRID[kernels, 3]
    held: Floats = np.where(split > 1, _PARTIAL_BYTES * split * results, 0.0)
    return held
