"""The best design for a step under a board's limits: all unroll factors and buffers that fit and that none outdoes.

More units, larger buffers and more resident weights do not make a step slower (but for a rare tile that the input
buffer cuts another way), so of the designs that fit only those count that no other fitting design has all of and more.
They are priced all at once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hwmodels.fpga.design import Design
from hwmodels.fpga.file import with_design
from hwmodels.fpga.model import Fpga
from hwmodels.fpga.resources import binding, resources, usable
from hwmodels.fpga.timing import numbers_of, rows_of, seconds
from simulator.errors import TrainwattError
from simulator.units import show
from simulator.work import KERNELS, PARTS, Floats, Work

_UNROLL = (*range(1, 17), *range(18, 34, 2), *range(36, 65, 4), *range(72, 129, 8), 160, 192, 256)
_TILE_WORDS = (128, 256, 512, 1024, 2048, 4096)
_INPUT_PER_TILE = (1, 1.25, 2, 4)
"""Words of an input bank over those of an output bank; a strided layer reads more positions than it writes."""
_WEIGHT_BITS = (1024, 4096, 18432, 36864, 73728)
"""Bits of a weight bank: LUT memory, a part of a block RAM, one, two, four."""
_AT_ONCE = 2**20
"""Designs x rows that are priced in one go: 8 MB a column."""
_SHOWN = 3
_SEARCHED = ("tm", "tn", "tr", "tc", "input_words", "weight_words")


@dataclass(frozen=True)
class Candidates:
    """Designs as columns, shape (designs,), and how many fitted before those were dropped that another outdoes."""

    numbers: dict[str, Floats]
    fitting: int

    def __len__(self) -> int:
        return len(self.numbers["tm"])


def best_design(work: Work, board: Fpga) -> tuple[Fpga, tuple[str, ...]]:
    """Return the board with the design on which `work`, at one batch size, takes least time, and lines that say why.

    Tm, Tn, the tile and the resident weights are searched; precision, clock, streams and lanes stay those of the
    board's design. Of equally fast designs the one of least units is taken. Raises `TrainwattError` where nothing fits.
    """
    if work.macs.ndim != 1:
        raise TrainwattError("a design for many batch sizes at once; give work of one batch size")
    found = _candidates(work, board)
    if not len(found):
        what = f"no {board.design.precision} design fits the usable part of {board.name}"
        raise TrainwattError(f"{what}; take a narrower precision, fewer lanes or engines")
    total = _total_seconds(work, board, found)
    order = np.lexsort((found.numbers["tm"] * found.numbers["tn"], np.round(total / total.min(), 4)))
    unrolls = np.stack([found.numbers["tm"][order], found.numbers["tn"][order]])
    order = order[np.sort(np.unique(unrolls, axis=1, return_index=True)[1])][:_SHOWN]
    designs = [_design(board, found, int(i)) for i in order]
    best = with_design(board, designs[0])
    head = (
        f"searched: {found.fitting:,} designs fit {board.name} ({board.design.precision}, "
        f"{show(board.clock_hz, 'Hz')}); {len(found):,} of them no other outdoes",
    )
    return best, (*head, *_reasons(work, board, designs, total[order]))


def _candidates(work: Work, board: Fpga) -> Candidates:
    """Return the designs that keep within the usable part of the board and that no other of them outdoes."""
    limits, base = board.board, board.design
    convolutions = work.macs > 0
    columns = float(work.nest["q"][convolutions].max(initial=1.0))
    units = np.floor(limits.dsp * limits.usable_dsp / base.operator.dsp.value)
    whole = {int(units // t) for t in _UNROLL if units >= t}
    sizes = sorted({t for t in _UNROLL if t <= units} | whole)
    pairs = np.array([(m, n) for m, n in product(sizes, sizes) if m * n <= units], dtype=np.float64).reshape(-1, 2)
    buffers = np.array(list(product(_TILE_WORDS, _INPUT_PER_TILE, _WEIGHT_BITS)), dtype=np.float64)
    tile, per_tile, weight_bits = buffers.T
    weight_words = np.floor(weight_bits / base.operator.bits)
    taken = resources(
        base.operator,
        limits,
        tm=pairs[:, :1],
        tn=pairs[:, 1:],
        tile_words=tile,
        input_words=tile * per_tile,
        weight_words=weight_words,
        buffers=base["buffers"],
        engines=base["engines"],
        lane_operators=base["lanes"] * base["lane_flops"],
    )
    fits = np.asarray(usable(taken, limits))
    bigger_pair, bigger_buffer = _outdoes(pairs), _outdoes(np.stack([tile, tile * per_tile, weight_words], axis=1))
    one_more = (bigger_pair.T.astype(np.float32) @ fits.astype(np.float32)) > 0
    one_more |= (fits.astype(np.float32) @ bigger_buffer.astype(np.float32)) > 0
    pair, buffer = np.nonzero(fits & ~one_more)
    wide = np.minimum(columns, tile[buffer])
    numbers = {
        "tm": pairs[pair, 0],
        "tn": pairs[pair, 1],
        "tr": np.floor(tile[buffer] / wide),
        "tc": wide,
        "input_words": (tile * per_tile)[buffer],
        "weight_words": weight_words[buffer],
    }
    return Candidates(numbers, int(fits.sum()))


def _outdoes(points: Floats) -> Any:
    """Return for every pair (a, b) of points whether a is at least b everywhere and more somewhere."""
    a, b = points[:, None, :], points[None, :, :]
    return (a >= b).all(axis=2) & (a > b).any(axis=2)


def _total_seconds(work: Work, board: Fpga, found: Candidates) -> Floats:
    """Return the seconds of the step on every candidate, launches left out: they are the same for all."""
    rows = rows_of(work, board.design)
    times = np.bincount(work.row_of_op, weights=work.runs, minlength=len(work.kernel))
    fixed = numbers_of(board.design)
    total = np.empty(len(found))
    chunk = max(1, _AT_ONCE // max(1, len(work.kernel)))
    for start in range(0, len(found), chunk):
        part = slice(start, start + chunk)
        searched = {name: column[part, None] for name, column in found.numbers.items()}
        time = seconds(rows, {**fixed, **searched}, clock=board.clock_hz, byte_per_s=board.byte_per_s)
        total[part] = time.busy @ times
    return total


def _design(board: Fpga, found: Candidates, i: int) -> Design:
    values = {name: float(found.numbers[name][i]) for name in _SEARCHED}
    return dataclasses.replace(
        board.design.changed("searched for the step's work under the board's limits", **values),
        description="searched for this step",
    )


def _reasons(work: Work, board: Fpga, designs: list[Design], total: Floats) -> tuple[str, ...]:
    best = with_design(board, designs[0])
    name, share = binding(best.resources, best.board)
    taken = getattr(best.resources, name)
    lines = [f"best: {designs[0]}: {show(total[0], 's')} a step"]
    lines += [
        f"next: {design}: {time / total[0] - 1:+.2%}" for design, time in zip(designs[1:], total[1:], strict=False)
    ]
    if tuple(designs[0][n] for n in _SEARCHED) != tuple(board.design[n] for n in _SEARCHED):
        before = _step_seconds(board, work)
        within = bool(usable(board.resources, board.board))
        lines.append(
            f"the board's own design: {board.design}: {before / _step_seconds(best, work) - 1:+.1%}"
            + ("" if within else ", with more of the board than the search may use")
        )
    of = getattr(board.board, name)
    lines.append(f"binding resource: {name}, {taken:,.0f} of {of:,.0f} ({share:.0%} of what the search may use)")
    lines += _phases(work, best)
    for streams in (1, 2, 3):
        if streams != best.design["streams"]:
            other = with_design(board, designs[0].changed("for comparison", streams=streams))
            change = _step_seconds(other, work) / _step_seconds(best, work) - 1
            lines.append(f"with {streams} streams instead of {best.design['streams']:g}: {change:+.1%}")
    return tuple(lines)


def _step_seconds(model: Fpga, work: Work) -> float:
    return float(work.total(model.price(work).latency_s))


def _phases(work: Work, model: Fpga) -> list[str]:
    """Return a line of clocks, share of busy units and bounds for every part of the step."""
    cost = model.price(work)
    groups = {f"convolution {part}": work.part == PARTS.index(part) for part in PARTS if part}
    told = np.logical_or.reduce(list(groups.values()))
    products = (work.macs > 0) & ~told
    groups |= {
        "other products": products,
        "everything else": ~told & ~products & (work.kernel != KERNELS.index("view")),
    }
    lines = []
    for name, chosen in groups.items():
        latency = float(work.total(np.where(chosen, cost.latency_s, 0.0)))
        if not latency:
            continue
        by_limit = {
            limit: float(work.total(np.where(chosen & (cost.bound == code), cost.latency_s, 0.0)))
            for code, limit in enumerate(cost.limits)
        }
        macs = float(work.total(np.where(chosen, work.macs, 0.0)))
        bounds = ", ".join(
            f"{limit} {time / latency:.0%}" for limit, time in by_limit.items() if time / latency > 0.005
        )
        clocks = latency * model.clock_hz
        busy = f", units busy {macs / (clocks * model.design.mac_units):.0%}" if macs else ""
        lines.append(f"{name}: {clocks:,.0f} clocks{busy}; bound by {bounds}")
    return lines
