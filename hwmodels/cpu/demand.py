"""What the rows of a work table ask of a CPU: arithmetic, bytes by level, and pieces to share among cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hwmodels.cpu.core import Core, depthwise_padding
from hwmodels.cpu.library import Library
from hwmodels.cpu.memory import Cache, tiled_elements
from hwmodels.cpu.products import Products, products, winograd_applies, winograd_products
from simulator.graph import ITEM_BYTES
from simulator.work import KERNELS, Floats, Ints, Nest, Work

GRAIN = 32768.0
"""Elements that PyTorch gives a thread at least (`at::internal::GRAIN_SIZE`)."""

ALGORITHMS = ("vector", "scalar", "depthwise", "product", "columns", "direct", "winograd")
"""How an op is computed. `vector` and `scalar` go over elements; `columns` lays a convolution out as a matrix."""

_VECTOR, _SCALAR, _DEPTHWISE, _PRODUCT, _COLUMNS, _DIRECT, _WINOGRAD = range(len(ALGORITHMS))
_CONVOLUTION, _DEPTHWISE_KERNEL = KERNELS.index("convolution"), KERNELS.index("depthwise")
_PRODUCTS = np.array([name in ("convolution", "gemm", "attention", "rnn") for name in KERNELS])


@dataclass(frozen=True)
class Processor:
    """The parts of a CPU that decide what an op asks of it; `flop_per_cycle` is of a core, by dtype."""

    core: Core
    caches: tuple[Cache, ...]
    library: Library
    flop_per_cycle: Mapping[str, float]
    gemm: float
    vector: float


@dataclass(frozen=True)
class Demand:
    """Columns, shape as the work's: `cycles` of arithmetic of one core; `read_bytes` and `written_bytes` by level,
    first cache first, memory last; `pieces` that cores can share; `other_flops` outside multiply-accumulates.
    `made` holds the products of `product_rows`.
    """

    algorithm: Ints
    cycles: Floats
    read_bytes: tuple[Floats, ...]
    written_bytes: tuple[Floats, ...]
    pieces: Floats
    macs: Floats
    other_flops: Floats
    made: Products
    product_rows: npt.NDArray[np.intp]


def demand(work: Work, cpu: Processor) -> Demand:
    """Return what every row of `work` asks of one core of `cpu` and of its memory."""
    shape = work.macs.shape

    def by_row(values: Floats) -> Floats:
        return values if len(shape) == 1 else values[:, None]

    items = np.array([float(ITEM_BYTES.get(name, 4)) for name in work.dtypes])[work.dtype]
    rates = np.array([cpu.flop_per_cycle.get(name, cpu.flop_per_cycle["float32"]) for name in work.dtypes])[work.dtype]
    lanes = np.maximum(cpu.core.vector_bytes / items, 1.0)
    scalar = np.array([name in cpu.library.scalar for name in KERNELS])[work.kernel]
    serial = np.array([name in cpu.library.serial for name in KERNELS])[work.kernel]

    algorithm = np.where(scalar, _SCALAR, _VECTOR)
    multiplies = by_row(_PRODUCTS[work.kernel] | (work.kernel == _DEPTHWISE_KERNEL))
    macs = np.where(multiplies, work.macs, 0.0)
    other = np.maximum(work.flops - 2.0 * macs, 0.0)
    elementwise = 1.0 / (rates * 0.5 * cpu.vector / np.where(scalar, lanes, 1.0))
    loads = np.zeros(shape)
    cycles = np.zeros(shape)
    pieces = np.maximum(work.read_bytes, work.written_bytes) / by_row(items * GRAIN)

    of_products = _PRODUCTS[work.kernel]
    beyond = _beyond(work, cpu.caches)
    levels = _streamed(work, beyond, of_products)

    at = np.flatnonzero(work.kernel == _DEPTHWISE_KERNEL)
    if at.size:
        algorithm[at] = _DEPTHWISE
        own = _few(items[at], len(shape))
        wider, loading = depthwise_padding(
            np.maximum(work.nest["q"][at], 1.0), work.nest["stride_w"][at], _few(lanes[at], len(shape))
        )
        cycles[at] = 2.0 * macs[at] * wider / (_few(rates[at], len(shape)) * cpu.gemm)
        loads[at] = macs[at] * loading * own
        pieces[at] = work.nest["n"][at] * work.nest["g"][at]

    rows = np.flatnonzero(of_products)
    made = _multiplied(work, cpu, rows, items, rates, (algorithm, macs, other, cycles, loads, pieces), levels, beyond)
    cycles += other * by_row(elementwise)
    reads, writes = levels
    reads[0] += loads
    pieces[serial] = 1.0
    return Demand(algorithm, cycles, tuple(reads), tuple(writes), pieces, macs, other, made, rows)


def _few(values: Floats, dimensions: int) -> Floats:
    return values if dimensions == 1 else values[:, None]


def _beyond(work: Work, caches: tuple[Cache, ...]) -> list[Floats]:
    """Return the share of an op's bytes that lie beyond each cache: all where they do not fit, and what has left it."""
    size = work.traffic_bytes
    away = [work.off_chip if cache.shared else work.off_core for cache in caches]
    left = [_few(np.maximum(share, 0.0), size.ndim) for share in away]
    return [np.maximum(size > c.total_bytes, share) for c, share in zip(caches, left, strict=True)]


def _streamed(work: Work, beyond: list[Floats], but: npt.NDArray[np.bool_]) -> tuple[list[Floats], list[Floats]]:
    """Return bytes read and written by level of the ops that stream: each at the level that holds it."""
    streams = ~(but if work.macs.ndim == 1 else but[:, None])
    edges = [np.ones_like(work.macs), *beyond, np.zeros_like(work.macs)]
    here = [np.where(streams, np.maximum(near - far, 0.0), 0.0) for near, far in pairwise(edges)]
    return [work.read_bytes * share for share in here], [work.written_bytes * share for share in here]


def _home(size: Floats, caches: tuple[Cache, ...]) -> Ints:
    """Return the number of the first level that holds so many bytes."""
    level = np.zeros(size.shape, dtype=np.int64)
    for cache in caches:
        level += size > cache.total_bytes
    return level


def _multiplied(
    work: Work,
    cpu: Processor,
    rows: npt.NDArray[np.intp],
    items: Floats,
    rates: Floats,
    columns: tuple[Ints, Floats, Floats, Floats, Floats, Floats],
    levels: tuple[list[Floats], list[Floats]],
    beyond: list[Floats],
) -> Products:
    """Fill in the `rows` of matrix products, in place; return their products."""
    algorithm, macs, other, cycles, loads, pieces = columns
    dimensions = work.macs.ndim
    item, rate = _few(items[rows], dimensions), _few(rates[rows], dimensions)
    part = work.part[rows] if dimensions == 1 else work.part[rows][:, None]
    is_convolution = work.kernel[rows] == _CONVOLUTION
    convolution = is_convolution if dimensions == 1 else is_convolution[:, None]
    nest = {name: np.maximum(work.nest[name][rows], 1.0) for name in Nest._fields}
    made = products(nest, part, convolution, cpu.library)
    own = macs[rows]
    algorithm[rows] = np.where(is_convolution, _COLUMNS if cpu.library.columns else _DIRECT, _PRODUCT)
    if cpu.library.columns:
        pointwise = made.column_elements == 0.0
        algorithm[rows[pointwise if dimensions == 1 else pointwise.all(axis=1)]] = _PRODUCT

    scale = own / made.macs  # above 1 only where a row's multiply-accumulates are not those of its nest
    arithmetic, loaded, tiles = cpu.core.cycles(made, rate, item)
    moved = [tiled_elements(made, cache.size_bytes, item) for cache in cpu.caches]
    if cpu.library.winograd:
        fast, transforms = winograd_products(nest, part)
        fast_cycles = cpu.core.cycles(fast, rate, item)
        extra = transforms / (rate * 0.5 * cpu.vector) * cpu.gemm
        better = winograd_applies(nest, part, convolution) & (fast_cycles[0] + extra < arithmetic)
        arithmetic = np.where(better, fast_cycles[0], arithmetic)
        loaded, tiles = np.where(better, fast_cycles[1], loaded), np.where(better, fast_cycles[2], tiles)
        moved = [
            np.where(better, tiled_elements(fast, cache.size_bytes, item), slow)
            for cache, slow in zip(cpu.caches, moved, strict=True)
        ]
        other[rows] += np.where(better, transforms * scale, 0.0)
        macs[rows] = np.where(better, fast.macs * scale, own)
        made = _where(better, fast, made)
        algorithm[rows[better if dimensions == 1 else better.all(axis=1)]] = _WINOGRAD
    cycles[rows] = arithmetic * scale / cpu.gemm
    loads[rows] = loaded * scale * cpu.core.l1_byte_per_cycle
    pieces[rows] = tiles * made.grains

    read, written = work.read_bytes[rows], work.written_bytes[rows]
    reads, writes = levels
    home = _home(read + written, cpu.caches)
    laid_out = made.column_elements * item
    columns_home = _home(made.image_elements * item, cpu.caches)
    for i in range(1, len(cpu.caches) + 1):
        most = np.maximum(moved[i - 1] * item, read + written)
        here, extra = home >= i, np.where(columns_home == i, laid_out, 0.0)
        away = beyond[i - 1][rows]
        reads[i][rows] = np.maximum(np.where(here, most - written, 0.0), away * read) + extra
        writes[i][rows] = np.maximum(np.where(here, written, 0.0), away * written) + extra
    return made


def _where(condition: Ints, yes: Products, no: Products) -> Products:
    fields = Products.__dataclass_fields__
    return replace(no, **{f: np.where(condition, getattr(yes, f), getattr(no, f)) for f in fields})
