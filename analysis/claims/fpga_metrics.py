"""What is claimed of FPGA accelerators: networks given as layers, priced on a board with the design of its file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from analysis.claims.registry import metric
from simulator.work import KERNELS, PARTS, Nest, Row, Work

if TYPE_CHECKING:
    from hwmodels.fpga.model import Fpga

GROUPS = 2
ALEXNET = {
    "conv1": (48, 3, 55, 11, 4),
    "conv2": (128, 48, 27, 5, 1),
    "conv3": (192, 256, 13, 3, 1),
    "conv4": (192, 192, 13, 3, 1),
    "conv5": (128, 192, 13, 3, 1),
}
"""AlexNet's convolutions, one of two groups: output and input channels, positions, filter, stride; Krizhevsky 2012."""

VGG = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Output channels of VGG-16's 3 x 3 convolutions, 0 a pooling by 2; Simonyan and Zisserman 2015."""


def _convolution(part: str, n: int, k: int, c: int, positions: int, filter_: int, stride: int) -> Row:
    nest = Nest(n, 1, k, c, positions, positions, filter_, filter_, stride, stride)
    return Row("convolution", flops=2 * nest.macs, macs=nest.macs, nest=nest, part=part)


def _work(rows: Sequence[Row]) -> Work:
    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([getattr(row, name) for row in rows], dtype=np.float64)

    nests = [row.nest or Nest() for row in rows]
    return Work(
        kernel=np.array([KERNELS.index(row.kernel) for row in rows]),
        dtype=np.zeros(len(rows), dtype=np.int64),
        dtypes=("float32",),
        launches=column("launches"),
        macs=column("macs"),
        flops=column("flops"),
        read_bytes=column("read_bytes"),
        written_bytes=column("written_bytes"),
        nest={name: np.array([getattr(nest, name) for nest in nests], dtype=np.float64) for name in Nest._fields},
        row_of_op=np.arange(len(rows)),
        runs=np.ones(len(rows)),
        part=np.array([PARTS.index(row.part) for row in rows]),
    )


def _alexnet() -> Work:
    """The forward convolutions of one image, both groups."""
    return _work([_convolution("forward", 1, *layer) for layer in ALEXNET.values()] * GROUPS)


def _vgg_step(batch: int, whole: bool) -> Work:
    """A training step of VGG-16 with batch norm at 224 x 224: its convolutions, or with all between them.

    Bytes are of 4-byte words, each operand once; batch norm reads its operands twice.
    """
    rows, channels, size = [], 3, 224
    for width in VGG:
        elements = batch * (width or channels) * size * size
        if not width:
            pooled = elements // 4
            rows += [
                Row("pool", 3 * pooled, 4 * elements, 12 * pooled),
                Row("pool", pooled, 12 * pooled, 4 * elements),
            ]
            size //= 2
            continue
        parts = ("forward", "weight", "input") if rows else ("forward", "weight")
        rows += [_convolution(part, batch, width, channels, size, 3, 1) for part in parts]
        weights = 9 * width * channels
        rows += [
            Row("norm", 6 * elements, 8 * elements, 4 * elements),
            Row("norm", 9 * elements, 16 * elements, 4 * elements),
            Row("elementwise", elements, 4 * elements, 4 * elements),
            Row("elementwise", elements, 8 * elements, 4 * elements),
            Row("elementwise", 2 * weights, 8 * weights, 4 * weights),
        ]
        channels = width
    return _work(rows if whole else [row for row in rows if row.macs])


@cache
def _board(name: str) -> Fpga:
    from hwmodels.device import device
    from hwmodels.fpga.model import Fpga

    model = device(name)
    assert isinstance(model, Fpga), name
    return model


def _workload(network: str, batch: int, whole: bool) -> Work:
    return _alexnet() if network == "alexnet" else _vgg_step(batch, whole)


def _gflops(board: str, network: str, batch: int, whole: bool) -> float:
    work = _workload(network, batch, whole)
    seconds = work.total(_board(board).price(work).latency_s)
    return float(2 * work.total(work.macs) / seconds / 1e9)


@metric("fpga-cycles")
def fpga_cycles(board: str, layer: str) -> float:
    """Clocks of MACs of one group of an AlexNet convolution, pipeline fill left out as in the paper's equation."""
    from hwmodels.fpga.timing import numbers_of, rows_of, seconds

    model = _board(board)
    rows = rows_of(_work([_convolution("forward", 1, *ALEXNET[layer])]), model.design)
    numbers = {**numbers_of(model.design), "depth": 0.0}
    return float(seconds(rows, numbers, clock=model.clock_hz, byte_per_s=model.byte_per_s).tiles.compute[0])


@metric("fpga-model-ms")
def fpga_model_ms(board: str) -> float:
    """Milliseconds of AlexNet's convolutions, both groups, by clocks of MACs alone."""
    return GROUPS * sum(fpga_cycles(board, layer) for layer in ALEXNET) / _board(board).clock_hz * 1e3


@metric("fpga-gflops")
def fpga_gflops(board: str, network: str, batch: int = 1, whole: bool = False) -> float:
    """FLOPs in MACs over the time of the network's convolutions (or `whole` step), transfers and set-up in it."""
    return _gflops(board, network, batch, whole)


@metric("fpga-watts")
def fpga_watts(board: str, network: str, batch: int = 1, whole: bool = False) -> float:
    """Mean power while the network runs."""
    work = _workload(network, batch, whole)
    cost = _board(board).price(work)
    return float(work.total(cost.energy_j) / work.total(cost.latency_s))


@metric("fpga-gflops-per-watt")
def fpga_gflops_per_watt(board: str, network: str, batch: int = 1, whole: bool = False) -> float:
    """FLOPs in MACs for a joule."""
    return _gflops(board, network, batch, whole) / fpga_watts(board, network, batch, whole)


@metric("fpga-resource")
def fpga_resource(board: str, resource: str, engine_only: bool = False) -> float:
    """What the design takes of a resource of the board, with its vector lanes or without (`engine_only`)."""
    from hwmodels.fpga.resources import resources_of

    model = _board(board)
    design = model.design
    if engine_only:
        design = design.changed("the engine without its vector lanes", lanes=0)
    return float(getattr(resources_of(design, model.board), resource))
