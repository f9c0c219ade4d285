"""Caches and memory: where an op's data lie, and how many bytes each level delivers.

What an op reads and writes (its working set) lies in the first level that holds it all; an op that streams moves
every byte once to or from there. A matrix product (m x k) by (k x n) that works on a tile of a x b elements of the
result in a cache of S elements moves from the level behind it, element size aside,

    count * m n k (reuse^-1 / b + 1 / a)    a = min(m, S/b'), b = min(n, S/a'), a' = min(m, sqrt S), b' = min(n, sqrt S)

which is 2 m n k / sqrt(S) for large matrices, the least that is possible with S up to a constant [Hong and Kung,
"I/O complexity: the red-blue pebble game", STOC 1981], and never less than each operand once.

Where the work says how much of an op's operands has left the caches of a core, and all of them, since it was last
touched (`off_core`, `off_chip`), these shares come from behind them even if all would fit.

Reads R and writes W of memory take, at the measured rates of one core (a copy counts the bytes copied, once),

    min(R, W) / copy + (R - min(R, W)) / read + (W - min(R, W)) / write

so that a copy, a sum and a fill of measured speed come out as measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwmodels.cpu.core import HALF
from hwmodels.cpu.products import Products
from simulator.work import Floats


@dataclass(frozen=True)
class Cache:
    """One level: `size_bytes` of each of `instances`, `byte_per_s` of one core, `scaling` times that of all cores.
    Several cores may have it `shared`; else each has its own."""

    name: str
    size_bytes: float
    instances: float
    byte_per_s: float
    scaling: float
    energy_j_per_byte: float
    shared: bool = True

    @property
    def total_bytes(self) -> float:
        """What all instances hold."""
        return self.size_bytes * self.instances


@dataclass(frozen=True)
class Dram:
    """The memory behind the caches: measured rates of one core, `scaling` times these for all, at most the peak."""

    read_byte_per_s: float
    write_byte_per_s: float
    copy_byte_per_s: float
    scaling: float
    peak_byte_per_s: float
    energy_j_per_byte: float

    def seconds(self, read: Floats, written: Floats, share: Floats | float) -> Floats:
        """Return how long reads and writes take, where `share` times one core's rate is reached."""
        copied = np.minimum(read, written)
        alone = (
            copied / self.copy_byte_per_s
            + (read - copied) / self.read_byte_per_s
            + (written - copied) / self.write_byte_per_s
        )
        return np.maximum(alone / share, (read + written) / self.peak_byte_per_s)


def tiled_elements(made: Products, cache_bytes: float, item_bytes: Floats) -> Floats:
    """Return the elements that products move into a cache from the level behind it; see this module."""
    elements = HALF * cache_bytes / item_bytes
    side = np.sqrt(elements)
    high = np.maximum(np.minimum(made.m, elements / np.minimum(made.n, side)), 1.0)
    wide = np.maximum(np.minimum(made.n, elements / np.minimum(made.m, side)), 1.0)
    return made.macs * (1.0 / (wide * made.reuse) + 1.0 / high)
