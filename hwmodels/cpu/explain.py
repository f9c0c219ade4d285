"""The price of one op on a CPU, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwmodels.cpu.demand import ALGORITHMS, Demand
from simulator.errors import TrainwattError
from simulator.units import show
from simulator.work import KERNELS, PARTS, Work

if TYPE_CHECKING:
    from hwmodels.cpu.model import Cpu

_WORDS = {
    "vector": "over elements, with vector instructions",
    "scalar": "over elements, one at a time",
    "depthwise": "a filter for each channel, a vector along a row of the map",
    "product": "matrix product",
    "columns": "columns laid out in memory, then a matrix product image by image",
    "direct": "the convolution's own loops, tiled",
    "winograd": "Winograd F(4x4, 3x3): 36 products of transformed tiles",
}


def explain(cpu: Cpu, work: Work, row: int) -> tuple[tuple[str, str], ...]:
    """Return how the price of row `row` of `work` comes about: (label, text) in order, ending with latency, energy
    and bound.

    Raises `TrainwattError` for a row that does not exist and for work at several batch sizes.
    """
    if work.macs.ndim != 1:
        raise TrainwattError(f"work at {work.macs.shape[1]} batch sizes; explain one")
    if not 0 <= row < len(work.kernel):
        raise TrainwattError(f"no row {row} of work; there are {len(work.kernel)}")
    one = only(work, row)
    asked, cost = cpu.demand(one), cpu.price(one)
    threads = float(np.clip(asked.pieces, 1.0, float(cpu.cores))[0])
    alone = [float(t[0]) for t in cpu.seconds(asked, 1.0)]
    shared = [float(t[0]) for t in cpu.seconds(asked, threads)]
    launches = float(one.launches[0])
    together = cpu.processor.core.together
    busy_one = float(together([np.array(t) for t in alone]))
    busy_many = float(together([np.array(t) for t in shared]))
    regions = cpu.region_s * launches
    many = regions + cpu.serial * busy_one + (1 - cpu.serial) * busy_many
    busy = min(many, busy_one)
    latency, dispatch = float(cost.latency_s[0]), cpu.dispatch_s * launches
    around = cpu.step.dispatch_s * float(one.framework[0]) if cpu.step else 0.0

    lines = [
        ("op", f"{KERNELS[one.kernel[0]]} {PARTS[one.part[0]]}".strip() + f" in {one.dtypes[one.dtype[0]]}"),
        ("algorithm", _WORDS[ALGORITHMS[asked.algorithm[0]]]),
        *_products(asked),
        (
            "work",
            f"{asked.macs[0]:.4g} MACs and {asked.other_flops[0]:.4g} other FLOPs; reads"
            f" {show(float(one.read_bytes[0]), 'byte')}, writes {show(float(one.written_bytes[0]), 'byte')} at least",
        ),
        ("compute", f"{asked.cycles[0]:.4g} cycles / {show(cpu.clock_hz, 'Hz')} = {show(alone[0], 's')} on one core"),
    ]
    for name, read, written, time in zip(cpu.levels, asked.read_bytes, asked.written_bytes, alone[1:], strict=True):
        moved = f"{show(float(read[0]), 'byte')} read + {show(float(written[0]), 'byte')} written"
        lines.append((name, f"{moved}: {show(time, 's')} with one core"))
    hidden = f"the longest and {1 - cpu.processor.core.hidden:.3g} of the others"
    lines += [
        ("one core", f"{hidden}: {show(busy_one, 's')}"),
        (
            f"{threads:.3g} cores",
            f"region {show(regions, 's')} + {cpu.serial:.3g} x {show(busy_one, 's')}"
            f" + {1 - cpu.serial:.3g} x {show(busy_many, 's')} = {show(many, 's')}",
        ),
        ("dispatch", f"{launches:g} x {show(cpu.dispatch_s, 's')}"),
        *([("framework", f"{show(around, 's')} of modules, autograd and optimizer")] if around else []),
        ("energy by cause", ", ".join(f"{name} {show(float(e[0]), 'J')}" for name, e in cost.rails.items())),
        ("latency", f"{show(dispatch + around, 's')} + {show(busy, 's')} = {show(latency, 's')} ({latency!r} s)"),
        ("energy", f"{show(float(cost.energy_j[0]), 'J')} ({float(cost.energy_j[0])!r} J)"),
        ("bound", cost.limits[cost.bound[0]]),
    ]
    return tuple(lines)


def only(work: Work, row: int) -> Work:
    """Return one row of `work`, as the work of one op."""
    return work.select(np.array([row]), runs=np.ones(1))


def _products(asked: Demand) -> list[tuple[str, str]]:
    if not len(asked.product_rows):
        return []
    made = asked.made
    lines = [("products", f"{made.count[0]:g} of ({made.m[0]:g} x {made.k[0]:g}) by ({made.k[0]:g} x {made.n[0]:g})")]
    if made.column_elements[0]:
        lines.append(("columns", f"{made.column_elements[0]:.4g} elements written once and read once"))
    return lines
