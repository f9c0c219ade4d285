"""What the rows of a work table take on a chip, by limit.

    busy    = max(compute, L2, DRAM)                  by the kernels of `tiles`, `convolution`, `streaming`
    latency = busy + bias + L * t_start               L kernels; bias: its own pass over a convolution's result

What the loop nest of an op does not tell of its MACs runs at the rate of full tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwmodels.gpu import convolution, streaming, tiles
from hwmodels.gpu.chip import Chip
from simulator.graph import ITEM_BYTES
from simulator.work import KERNELS, Floats, Ints, Work

_CONVOLUTION, _DEPTHWISE, _POOL = (KERNELS.index(name) for name in ("convolution", "depthwise", "pool"))
_PRODUCTS = tuple(KERNELS.index(name) for name in ("gemm", "attention", "rnn"))
_LOOPS = ("n", "g", "k", "c", "p", "q", "r", "s")


@dataclass(frozen=True)
class Seconds:
    """What each row takes on the chip, columns of the work's shape.

    `compute`, `l2`, `dram` are seconds by limit, `bias` those of the pass that adds a bias, `start` those of starting
    kernels; `kernels` counts them and `dram_bytes` is what goes through DRAM. `algorithm` is a place in
    `convolution.ALGORITHMS`, `kernel` a row of the grid of `tiles`, -1 where there is none.
    """

    compute: Floats
    l2: Floats
    dram: Floats
    bias: Floats
    start: Floats
    kernels: Floats
    dram_bytes: Floats
    algorithm: Ints
    kernel: Ints

    @property
    def latency(self) -> Floats:
        busy: Floats = np.maximum(np.maximum(self.compute, self.l2), self.dram)
        return busy + self.bias + self.start


def seconds(chip: Chip, work: Work) -> Seconds:
    """Return what one execution of every row of `work` takes on `chip`."""
    macs, traffic = work.macs, work.traffic_bytes
    vector = _by_row(work, [chip.vector_rate(d) / 2.0 * chip.cycles_per_s for d in work.dtypes])
    compute = work.flops / vector
    l2 = traffic / chip.l2_byte_per_s
    dram_bytes = streaming.missed_bytes(chip, traffic)
    bias, kernels = np.zeros_like(macs), np.zeros_like(macs)
    algorithm, kernel = np.full((2, *macs.shape), -1, dtype=np.int64)
    kernels += work.launches if macs.ndim == 1 else work.launches[:, None]

    pools = np.flatnonzero(work.kernel == _POOL)
    if pools.size:
        compute[pools] = streaming.pool_slots(work.flops[pools], work.written_bytes[pools]) / vector[pools]
    depthwise = np.flatnonzero(work.kernel == _DEPTHWISE)
    if depthwise.size:
        nest, part = _nest(work, depthwise), work.part[depthwise]
        compute[depthwise] = streaming.depthwise_slots(nest, part) / vector[depthwise]
        moved = streaming.depthwise_l2_bytes(nest, part, work.read_bytes[depthwise], work.written_bytes[depthwise])
        l2[depthwise] = moved / chip.l2_byte_per_s
    convolutions = np.flatnonzero(work.kernel == _CONVOLUTION)
    if convolutions.size:
        found, algorithm[convolutions] = convolution.convolutions(chip, convolution_rows(chip, work, convolutions))
        compute[convolutions], l2[convolutions] = found.compute_s, found.l2_s
        dram_bytes[convolutions], kernel[convolutions] = found.dram_bytes, found.kernel
    products = np.flatnonzero(np.isin(work.kernel, _PRODUCTS))
    if products.size:
        found = tiles.times(chip, _products(chip, work, products))
        compute[products], l2[products] = found.compute_s, found.l2_s
        dram_bytes[products], kernel[products] = found.dram_bytes, found.kernel

    multiplying = np.concatenate([depthwise, convolutions, products])
    if multiplying.size:
        described = np.prod([work.nest[name][multiplying] for name in _LOOPS], axis=0)
        rest = 2.0 * np.maximum(macs[multiplying] - described, 0.0)
        full = _by_row(work, [chip.matrix_rate(d, False) * chip.cycles_per_s * chip.pipeline for d in work.dtypes])
        compute[multiplying] += rest / full[multiplying]
        # FLOPs beyond the MACs (a softmax within attention, scaling) run on the cores beside the products.
        beside = np.maximum(work.flops[products] - 2.0 * macs[products], 0.0)
        compute[products] += beside / vector[products]
    adding = np.concatenate([depthwise, convolutions])
    if adding.size:
        added = work.flops[adding] > 2.0 * macs[adding]
        again = streaming.missed_bytes(chip, 2.0 * work.written_bytes[adding]) / chip.dram_reached
        bias[adding] = np.where(added, again, 0.0)
        kernels[adding] += added
    return Seconds(
        compute,
        l2,
        dram_bytes / chip.dram_reached,
        bias,
        kernels * chip.kernel_s,
        kernels,
        dram_bytes,
        algorithm,
        kernel,
    )


def _by_row(work: Work, of_dtype: list[float]) -> Floats:
    """Return a number of each dtype as a column that work columns can be divided by."""
    column: Floats = np.array(of_dtype, dtype=np.float64)[work.dtype] if of_dtype else np.zeros(0)
    return column if work.macs.ndim == 1 else column[:, None]


def _nest(work: Work, rows: Ints) -> Mapping[str, Floats]:
    """Return the loop counts of some rows; a loop of none is taken for one of one."""
    return {name: np.maximum(column[rows], 1.0) for name, column in work.nest.items()}


def _item_bytes(work: Work, rows: Ints) -> Floats:
    items = _by_row(work, [float(ITEM_BYTES.get(d, 4)) for d in work.dtypes])
    return np.broadcast_to(items[rows], work.macs[rows].shape)


def _matrix_rates(chip: Chip, work: Work, rows: Ints, convolution: bool) -> Floats:
    rates = _by_row(work, [chip.matrix_rate(d, convolution) for d in work.dtypes])
    return np.broadcast_to(rates[rows], work.macs[rows].shape)


def convolution_rows(chip: Chip, work: Work, rows: Ints) -> convolution.Convolutions:
    """Return the convolutions among the rows of `work`, which are `rows`, as their kernels see them."""
    nest = _nest(work, rows)
    taps = {name: nest[name] if nest[name].ndim == 1 else nest[name][:, 0] for name in nest}
    plain = np.all([taps[name] == 1 for name in ("stride_h", "stride_w", "dilation_h", "dilation_w")], axis=0)
    # Winograd trades multiplications for additions, which tensor cores do not make.
    by_cores = np.array([chip.matrix_rate(d, True) == chip.vector_rate(d) for d in work.dtypes])[work.dtype[rows]]
    return convolution.Convolutions(
        nest,
        work.part[rows],
        _item_bytes(work, rows),
        _matrix_rates(chip, work, rows, True),
        plain & (taps["r"] == 3) & (taps["s"] == 3) & by_cores,
        work.read_bytes[rows],
        work.written_bytes[rows],
    )


def _products(chip: Chip, work: Work, rows: Ints) -> tiles.Products:
    nest, item = _nest(work, rows), _item_bytes(work, rows)
    read = work.read_bytes[rows]
    second = np.minimum(nest["n"] * nest["c"] * nest["k"] * item, read)
    return tiles.Products(
        m=nest["p"],
        n=nest["k"],
        k=nest["c"],
        batch=nest["n"],
        item_bytes=item,
        flop_per_cycle=_matrix_rates(chip, work, rows, False),
        a_bytes=read - second,
        b_bytes=second,
        out_bytes=work.written_bytes[rows],
    )
