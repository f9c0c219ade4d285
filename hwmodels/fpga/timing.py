"""Seconds of every row on one design, or on many at once.

compute = clocks of MACs / rate + (FLOPs - 2 MACs) / (lanes * lane_flops),  over the clock
stream  = bytes of the busiest stream / (stream_width * clock)
memory  = max(bytes of the tiles, compulsory bytes) / bandwidth
busy    = max(compute, stream, memory)              two buffers: loads and stores hide behind computing
busy    = compute + max(stream, memory)             one buffer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwmodels.fpga.design import Design
from hwmodels.fpga.engine import Products, Tiles, products, streamed, tiles
from hwmodels.fpga.operands import Operands, operands
from simulator.work import KERNELS, Work

_TILE_NUMBERS = ("tm", "tn", "tr", "tc", "input_words", "weight_words", "depth")
_ELEMENTWISE = KERNELS.index("elementwise")


@dataclass(frozen=True)
class Rows:
    """What of a work does not depend on the design's numbers, only on its precision."""

    work: Work
    what: Products
    width: Operands
    vector_flops: Any
    read: Any
    written: Any
    one_stream: Any


@dataclass(frozen=True)
class Seconds:
    """What each limit alone would take, and `busy`, how long the row keeps the engine; `bytes` to and from memory."""

    compute: Any
    stream: Any
    memory: Any
    busy: Any
    bytes: Any
    vector: Any
    tiles: Tiles


def rows_of(work: Work, design: Design) -> Rows:
    """Return the rows of `work` for designs of the precision of `design`."""
    width = operands(work, design.operator, design.arithmetic)
    scale = by_row(width.traffic_scale, work)
    read, written = work.read_bytes * scale, work.written_bytes * scale
    # A second operand of an elementwise op comes over the second stream; all else reads one operand at a time.
    second = by_row(work.kernel == _ELEMENTWISE, work)
    return Rows(
        work=work,
        what=products(work),
        width=width,
        vector_flops=np.maximum(work.flops - 2.0 * work.macs, 0.0),
        read=read,
        written=written,
        one_stream=np.where(second, np.maximum(read / 2, np.minimum(read, written)), read),
    )


def by_row(column: Any, work: Work) -> Any:
    """Return a column of one number per row so that it goes with the columns of `work`."""
    return column if work.macs.ndim == 1 else column[:, None]


def numbers_of(design: Design) -> dict[str, Any]:
    """Return the numbers of a design by name, as `seconds` takes them."""
    return {name: number.value for name, number in design.numbers.items()}


def seconds(rows: Rows, design: Mapping[str, Any], *, clock: float, byte_per_s: float) -> Seconds:
    """Return the seconds of every row; `design` maps names to numbers, or to arrays (designs, 1) of them."""
    work, width = rows.work, rows.width
    found = tiles(rows.what, **{name: design[name] for name in _TILE_NUMBERS})
    first = found.words_in * by_row(width.first_bytes, work)
    second = found.words_weight * by_row(width.second_bytes, work)
    out = found.words_out * by_row(width.out_bytes, work)
    streams = design["streams"]
    busiest = np.where(
        work.macs > 0,
        streamed(first, second, out, streams),
        streamed(rows.one_stream, rows.read - rows.one_stream, rows.written, streams),
    )
    vector = rows.vector_flops / (design["lanes"] * design["lane_flops"])
    compute = (found.compute / by_row(width.rate, work) + vector) / clock
    moved = np.maximum(first + second + out, rows.read + rows.written)
    stream = busiest / (design["stream_width"] * clock)
    memory = moved / byte_per_s
    transfer = np.maximum(stream, memory)
    ping_pong = design["buffers"] > 1
    busy = np.where(ping_pong, np.maximum(compute, transfer), compute + transfer)
    return Seconds(compute, stream, memory, busy, moved, vector, found)
