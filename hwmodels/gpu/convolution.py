"""Convolutions as matrix products: implicit GEMM and Winograd, for forward and both gradients.

Of a nest n, g, k, c, p, q, r, s with strides sh, sw, as products (M x K) by (K x N), g of them:

    forward  M = n*p*q                       N = k       K = c*r*s
    input    M = n*p*q*min(sh,r)*min(sw,s)   N = c       K = k*max(r/sh,1)*max(s/sw,1)    positions that a tap reaches
    weight   M = k                           N = c*r*s   K = n*p*q

A 3x3 convolution of stride 1 may go by Winograd instead, F(m x m, 3 x 3) with t = (m + 2)^2 products:

    forward, input   M = n*ceil(p/m)*ceil(q/m), N, K = the channels;   weight   M = k, N = c, K = n*ceil(p/m)*ceil(q/m)

m = 2 transforms within the kernel (forward and input), at 32 additions an input tile and channel and 24 an output tile
and channel; m = 4 in kernels of their own, at 156 and 90, writing and reading t values each through DRAM, where they
are within the workspace that the chip allows:

    m = 2   t * g * c * k * item                                      transformed filters
    m = 4   t * g * (tiles * (c + k) + c * k) * item                  and transformed inputs and results
[Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hwmodels.gpu.chip import Chip
from hwmodels.gpu.tiles import PRODUCTS, WEIGHTS, WINOGRAD, Products, Times, times
from simulator.work import PARTS, Floats, Ints

INPUT, WEIGHT = PARTS.index("input"), PARTS.index("weight")
ALGORITHMS = ("implicit GEMM", "Winograd F(2x2, 3x3)", "Winograd F(4x4, 3x3)")
WINOGRAD_SAVING = 4.0
"""No algorithm here needs fewer than a quarter of the direct multiplications: F(4x4, 3x3), 36 for 144."""

_ADDITIONS = {2: (32.0, 24.0), 4: (156.0, 90.0)}


class Convolutions(NamedTuple):
    """Rows of convolutions: loop counts (`nest`, columns), what each computes, operand size, rates and traffic.

    `part` (rows,) holds codes into `PARTS`, a row of no part counting as forward; `winograd` (rows,) says where
    Winograd may be used.
    """

    nest: Mapping[str, Floats]
    part: Ints
    item_bytes: Floats
    flop_per_cycle: Floats
    winograd: npt.NDArray[np.bool_]
    read_bytes: Floats
    written_bytes: Floats

    def at(self, rows: Ints) -> Convolutions:
        """Return some of the rows."""
        return Convolutions(
            {name: column[rows] for name, column in self.nest.items()},
            self.part[rows],
            self.item_bytes[rows],
            self.flop_per_cycle[rows],
            self.winograd[rows],
            self.read_bytes[rows],
            self.written_bytes[rows],
        )


def sizes(nest: Mapping[str, Floats], part: Ints) -> tuple[Floats, Floats, Floats]:
    """Return M, N, K of the implicit products, in the shape of the columns."""
    n, k, c, p, q, r, s = (nest[name] for name in ("n", "k", "c", "p", "q", "r", "s"))
    sh, sw = nest["stride_h"], nest["stride_w"]
    part = part if n.ndim == 1 else part[:, None]
    positions, taps = n * p * q, r * s
    reached = np.minimum(sh, r) * np.minimum(sw, s)
    m = np.where(part == WEIGHT, k, np.where(part == INPUT, positions * reached, positions))
    columns = np.where(part == WEIGHT, c * taps, np.where(part == INPUT, c, k))
    depth = np.where(part == WEIGHT, positions, np.where(part == INPUT, k * taps / reached, c * taps))
    return m, columns, depth


def operands(work: Convolutions) -> tuple[Floats, Floats]:
    """Return the compulsory bytes of the two operands: (rows' operand, columns' operand)."""
    nest = work.nest
    part = work.part if work.read_bytes.ndim == 1 else work.part[:, None]
    item = work.item_bytes
    weights = nest["g"] * nest["k"] * nest["c"] * nest["r"] * nest["s"] * item
    outputs = nest["n"] * nest["g"] * nest["k"] * nest["p"] * nest["q"] * item
    first = np.where(part == WEIGHT, outputs, np.maximum(work.read_bytes - weights, 0.0))
    first = np.minimum(first, work.read_bytes)
    return first, work.read_bytes - first


def implicit_gemm(chip: Chip, work: Convolutions) -> Times:
    """Return what each convolution takes as implicit GEMM."""
    weight = work.part == WEIGHT
    rows = [np.flatnonzero(~weight), np.flatnonzero(weight)]
    found = [
        _implicit_gemm(chip, work.at(some), kernels) for some, kernels in zip(rows, (PRODUCTS, WEIGHTS), strict=True)
    ]
    order = np.argsort(np.concatenate(rows))
    return Times(*(np.concatenate(columns)[order] for columns in zip(*found, strict=True)))


def _implicit_gemm(chip: Chip, work: Convolutions, kernels: Ints) -> Times:
    a, b = operands(work)
    m, n, k = sizes(work.nest, work.part)
    groups, item, rate = work.nest["g"], work.item_bytes, work.flop_per_cycle
    return times(chip, Products(m, n, k, groups, item, rate, a, b, work.written_bytes), kernels)


def winograd_sizes(nest: Mapping[str, Floats], part: Ints, m: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the tiles of m x m outputs, and M, N, K of each of the (m + 2)^2 products."""
    part = part if nest["n"].ndim == 1 else part[:, None]
    tiles = nest["n"] * np.ceil(nest["p"] / m) * np.ceil(nest["q"] / m)
    k, c = nest["k"], nest["c"]
    rows = np.where(part == WEIGHT, k, tiles)
    columns = np.where((part == INPUT) | (part == WEIGHT), c, k)
    depth = np.where(part == WEIGHT, tiles, np.where(part == INPUT, k, c))
    return tiles, rows, columns, depth


def winograd(chip: Chip, work: Convolutions, m: int) -> Times:
    """Return what each convolution takes by Winograd with m x m outputs a tile; rows must be 3x3 of stride 1."""
    a, b = operands(work)
    tiles, rows, columns, depth = winograd_sizes(work.nest, work.part, m)
    products = float((m + 2) ** 2)
    item, groups = work.item_bytes, work.nest["g"]
    into, out = _ADDITIONS[m]
    part = work.part if work.read_bytes.ndim == 1 else work.part[:, None]
    k, c = work.nest["k"], work.nest["c"]
    source = np.where(part == INPUT, k, c)
    result = np.where(part == INPUT, c, k)
    additions = groups * tiles * (into * source + out * result)
    moved = np.zeros_like(a)
    if m == 4:
        moved = 2.0 * products * groups * tiles * (source + result) * item
    return times(
        chip,
        Products(rows, columns, depth, groups * products, item, work.flop_per_cycle, a, b, work.written_bytes),
        WINOGRAD if m == 2 else PRODUCTS,
        extra_flops=additions,
        extra_bytes=moved,
    )


def winograd_bytes(work: Convolutions, m: int) -> Floats:
    """Return the workspace of Winograd with m x m outputs a tile, in the shape of the columns."""
    nest = work.nest
    tiles, *_ = winograd_sizes(nest, work.part, m)
    moved = tiles * (nest["c"] + nest["k"]) if m == 4 else 0.0
    return (m + 2.0) ** 2 * nest["g"] * (moved + nest["c"] * nest["k"]) * work.item_bytes


def convolutions(chip: Chip, work: Convolutions) -> tuple[Times, Ints]:
    """Return what the fastest algorithm takes for each convolution, and its place in `ALGORITHMS`."""
    best = implicit_gemm(chip, work)
    algorithm = np.zeros(best.busy_s.shape, dtype=np.int64)
    for code, m in ((1, 2), (2, 4)):
        rows = np.flatnonzero(work.winograd & ((work.part != WEIGHT) | (m == 4)))
        if not rows.size:
            continue
        found = winograd(chip, work.at(rows), m)
        fits = winograd_bytes(work.at(rows), m) <= chip.workspace_bytes
        faster = fits & (found.busy_s < best.busy_s[rows])
        for column, other in zip(best, found, strict=True):
            column[rows] = np.where(faster, other, column[rows])
        algorithm[rows] = np.where(faster, code, algorithm[rows])
    return best, algorithm
