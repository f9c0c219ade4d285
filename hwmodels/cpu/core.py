"""One core: cycles of matrix products on tiles of registers.

A kernel keeps a tile of R rows by V vectors (R x T elements, T = V x lanes) of the result in registers and, for each
step of the sum, loads R + T elements to do R T multiply-accumulates. With F FLOPs and B bytes of the first cache a
cycle, e bytes an element, L cycles until the first result of a tile is there, and K_c steps between two updates of
the tile in memory (half of the first cache holds what K_c steps load):

    tiles      = ceil(m/R) ceil(n/T)                       a part of a tile takes as long as a whole one
    arithmetic = tiles (2 R T k / F + L ceil(k/K_c))
    loads      = tiles ((R + T) k + 2 R T ceil(k/K_c)) e / B

or with m and n exchanged, or, for products with hardly a row to a tile, one vector at a time along the longest side,
two loads for a multiply-accumulate; whichever is done first. [Goto and van de Geijn, "Anatomy of High-Performance
Matrix Multiplication", ACM TOMS 34(3), 2008]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwmodels.cpu.products import Products
from simulator.work import Floats

HALF = 0.5
"""The part of a cache that holds a tile; the other half is left for what streams past it."""


@dataclass(frozen=True)
class Core:
    """The vector unit of a core: registers of `vector_bytes`, tiles of `tile_rows` x `tile_vectors`, `fill_cycles`
    until the first result. `l1_bytes` is the size of the first cache, `l1_byte_per_cycle` what it delivers. While the
    longest of several limits takes its time, the part `hidden` of the others passes too: 1 for a perfect overlap of
    arithmetic and memory, 0 for a core that waits for each.
    """

    vector_bytes: float
    tile_rows: float
    tile_vectors: float
    fill_cycles: float
    hidden: float
    l1_bytes: float
    l1_byte_per_cycle: float

    def together(self, times: list[Floats]) -> Floats:
        """Return how long several limits take that partly overlap; never less than the longest of them."""
        longest, total = times[0], times[0]
        for time in times[1:]:
            longest, total = np.maximum(longest, time), total + time
        return longest + (1.0 - self.hidden) * (total - longest)

    def cycles(self, made: Products, flop_per_cycle: Floats, item_bytes: Floats) -> tuple[Floats, Floats, Floats]:
        """Return cycles of arithmetic and of loads from the first cache, and how many tiles there are."""
        lanes = np.maximum(self.vector_bytes / item_bytes, 1.0)
        rows, wide = self.tile_rows, self.tile_vectors * lanes
        step = HALF * self.l1_bytes / ((rows + wide) * item_bytes)
        updates = np.ceil(made.k / np.maximum(step, 1.0))
        best = self._one_vector(made, flop_per_cycle, item_bytes, lanes)
        for m, n in ((made.m, made.n), (made.n, made.m)):
            tiles = made.count * np.ceil(m / rows) * np.ceil(n / wide)
            arithmetic = tiles * (2.0 * rows * wide * made.k / flop_per_cycle + self.fill_cycles * updates)
            loaded = tiles * ((rows + wide) * made.k + 2.0 * rows * wide * updates)
            best = self._faster(best, (arithmetic, loaded * item_bytes / self.l1_byte_per_cycle, tiles))
        return best

    def _one_vector(
        self, made: Products, flop_per_cycle: Floats, item_bytes: Floats, lanes: Floats
    ) -> tuple[Floats, Floats, Floats]:
        padded = np.minimum(
            np.minimum(_ceil(made.m, lanes) * made.n * made.k, made.m * _ceil(made.n, lanes) * made.k),
            made.m * made.n * _ceil(made.k, lanes),
        )
        macs = made.count * padded
        return (
            2.0 * macs / flop_per_cycle,
            2.0 * macs * item_bytes / self.l1_byte_per_cycle,
            made.count * np.maximum(made.m, made.n),
        )

    def _faster(
        self, one: tuple[Floats, Floats, Floats], other: tuple[Floats, Floats, Floats]
    ) -> tuple[Floats, Floats, Floats]:
        better = self.together(list(other[:2])) < self.together(list(one[:2]))
        a, b, c = (np.where(better, new, old) for new, old in zip(other, one, strict=True))
        return a, b, c


def _ceil(extent: Floats, block: Floats) -> Floats:
    """Return `extent` rounded up to whole blocks."""
    return np.ceil(extent / block) * block


def depthwise_padding(q: Floats, stride_w: Floats, lanes: Floats) -> tuple[Floats, Floats]:
    """Return the factors by which the multiply-accumulates and the loads of a depthwise convolution grow.

    A vector lies along a row of the map and may be partly empty; with a stride, its elements are loaded one by one.
    """
    padding = _ceil(q, lanes) / q
    return padding, padding * np.minimum(np.maximum(stride_w, 1.0), lanes)
