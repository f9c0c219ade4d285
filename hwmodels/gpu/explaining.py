"""How the cost of one row comes about, in lines of (label, text)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from hwmodels.gpu import convolution, tiles
from hwmodels.gpu.chip import Chip
from hwmodels.gpu.pricing import seconds
from simulator.cost import Cost
from simulator.errors import TrainwattError
from simulator.units import show
from simulator.work import KERNELS, PARTS, Work

Lines = tuple[tuple[str, str], ...]


def explanation(chip: Chip, launch_s: float, price: Callable[[Work], Cost], work: Work, row: int) -> Lines:
    """Return how the cost of row `row` of `work` comes about, ending with latency, energy and bound."""
    if work.macs.ndim != 1:
        raise TrainwattError(f"work at {work.macs.shape[1]} batch sizes; explain a row of one")
    if not 0 <= row < len(work.kernel):
        raise TrainwattError(f"row {row}; the work has rows 0 to {len(work.kernel) - 1}")
    one = _only(work, row)
    found, cost = seconds(chip, one), price(one)
    kernel, dtype = KERNELS[int(one.kernel[0])], one.dtypes[int(one.dtype[0])]
    part = PARTS[int(one.part[0])]
    lines = [
        ("kernel", f"{kernel}{' ' + part if part else ''}, {dtype}, {found.kernels[0]:g} launched"),
        ("work", f"{show(float(one.macs[0]), 'MAC')}, {show(float(one.flops[0]), 'FLOP')}"),
        (
            "operands",
            f"reads {show(float(one.read_bytes[0]), 'byte')}, writes {show(float(one.written_bytes[0]), 'byte')}",
        ),
        *_algorithm(chip, one, int(found.algorithm[0]), int(found.kernel[0])),
        ("compute", f"{_s(found.compute)} on {chip.units} SMs at {show(chip.clock_hz, 'Hz')}"),
        ("L2", f"{_s(found.l2)} at {show(chip.l2_byte_per_s, 'byte/s')}"),
        (
            "DRAM",
            f"{show(float(found.dram_bytes[0]), 'byte')} / ({chip.dram_share:g} x "
            f"{show(chip.dram_byte_per_s, 'byte/s')}) = {_s(found.dram)}",
        ),
    ]
    if found.bias[0]:
        lines.append(("bias", f"a pass of its own over the result: {_s(found.bias)}"))
    lines += [
        ("start", f"{found.kernels[0]:g} kernels x {show(chip.kernel_s, 's')} = {_s(found.start)}"),
        ("host", f"{found.kernels[0]:g} x {show(launch_s, 's')} = {show(float(found.kernels[0]) * launch_s, 's')}"),
        *((f"energy {name}", show(float(joules[0]), "J")) for name, joules in cost.rails.items()),
        ("latency", f"max(compute, L2, DRAM) + bias + start = {_s(cost.latency_s)}"),
        ("energy", show(float(cost.energy_j[0]), "J")),
        ("bound by", cost.limits[int(cost.bound[0])]),
    ]
    return tuple(lines)


def _only(work: Work, row: int) -> Work:
    """Return the table of one row."""
    held = {field.name: getattr(work, field.name) for field in fields(work)}
    columns: dict[str, Any] = {name: c[row : row + 1] for name, c in held.items() if isinstance(c, np.ndarray)}
    columns["nest"] = {name: column[row : row + 1] for name, column in work.nest.items()}
    return replace(work, **{**columns, "row_of_op": np.zeros(1, dtype=np.int64), "runs": np.ones(1)})


def _algorithm(chip: Chip, one: Work, algorithm: int, kernel: int) -> Lines:
    """Return the matrix products of a row that has some, and how they are cut."""
    if kernel < 0:
        return ()
    nest = {name: np.maximum(column, 1.0) for name, column in one.nest.items()}
    if algorithm < 0:
        m, n, k, batch = (float(nest[name][0]) for name in ("p", "k", "c", "n"))
        name = "matrix products"
    else:
        name = convolution.ALGORITHMS[algorithm]
        batch = float(nest["g"][0])
        if algorithm == 0:
            m, n, k = (float(column[0]) for column in convolution.sizes(nest, one.part))
        else:
            size = 2 * algorithm
            m, n, k = (float(column[0]) for column in convolution.winograd_sizes(nest, one.part, size)[1:])
            batch *= (size + 2) ** 2
    count, depth, threads = tiles.tile_counts(kernel, m, n, k, batch)
    return (
        ("algorithm", f"{name}: {batch:g} products of ({m:g} x {k:g}) by ({k:g} x {n:g})"),
        (
            "tiles",
            f"{count} of {tiles.kernel_name(kernel)}, {depth} steps and {chip.fill_steps:g} to start and store, "
            f"{threads} threads each",
        ),
        ("waves", f"{max(-(-count // chip.units), -(-256 // threads))} on each of {chip.units} SMs"),
    )


def _s(column: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    return show(float(column[0]), "s")
