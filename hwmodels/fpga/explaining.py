"""How the price of one row on an FPGA comes about, step by step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from hwmodels.fpga.timing import numbers_of, rows_of, seconds
from simulator.units import show
from simulator.work import KERNELS, PARTS, Work

if TYPE_CHECKING:
    from hwmodels.fpga.model import Fpga


def explained(model: Fpga, work: Work, row: int) -> tuple[tuple[str, str], ...]:
    """Return lines of (quantity, formula with numbers) for one row, at the first point where there are many."""
    one = _only(work, row)
    rows = rows_of(one, model.design)
    time = seconds(rows, numbers_of(model.design), clock=model.clock_hz, byte_per_s=model.byte_per_s)
    cost = model.price(one)
    design, clock = model.design, show(model.clock_hz, "Hz")

    def value(array: Any) -> float:
        return float(np.asarray(array).ravel()[0])

    lines = [("design", str(design)), ("kernel", KERNELS[int(one.kernel[0])])]
    if value(one.macs):
        lines += _product(one, rows, time, design)
    lines += [
        ("vector", f"{value(rows.vector_flops):,.0f} FLOP on {design['lanes']:g} lanes of {design['lane_flops']:g} a "
         f"clock = {value(time.vector):,.0f} clocks"),
        ("compute", f"{value(time.compute) * model.clock_hz:,.0f} clocks at {clock} = "
         f"{show(value(time.compute), 's')}"),
        ("stream", f"the busiest of {design['streams']:g} streams, {design['stream_width']:g} byte a clock = "
         f"{show(value(time.stream), 's')}"),
        ("memory", f"{show(value(time.bytes), 'byte')} at {show(model.byte_per_s, 'byte/s')} = "
         f"{show(value(time.memory), 's')}"),
        ("busy", ("max(compute, stream, memory)" if design["buffers"] > 1 else "compute + max(stream, memory)")
         + f" = {show(value(time.busy), 's')}"),
        ("launch", f"{value(one.launches):g} x {show(model.launch_s, 's')}"),
        *((f"energy {rail}", show(value(joules), "J")) for rail, joules in cost.rails.items()),
        ("latency", f"busy + launch = {value(cost.latency_s):.9g} s"),
        ("energy", show(value(cost.energy_j), "J")),
        ("bound", cost.limits[int(value(cost.bound))]),
    ]  # fmt: skip
    return tuple(lines)


def _product(one: Work, rows: Any, time: Any, design: Any) -> list[tuple[str, str]]:
    what, found = rows.what, time.tiles

    def of(array: Any) -> str:
        return f"{float(np.asarray(array).ravel()[0]):,.6g}"

    groups = f", {of(found.together)} groups at once" if float(found.together[0]) > 1 else ""
    stays = "stay on the chip" if bool(np.asarray(found.stays).ravel()[0]) else "come again for every tile"
    return [
        ("product", f"{PARTS[int(one.part[0])] or 'matrix'}: n = {of(what.n)}, g = {of(what.g)}, M = {of(what.m)}, "
         f"N = {of(what.k)}, R x C = {of(what.rows)} x {of(what.columns)}, {of(what.taps)} taps"),
        ("tiles", f"ceil(M/{design['tm']:g}) = {of(found.mt)}, ceil(N/{design['tn']:g}) = {of(found.nt)}, "
         f"{of(found.rt)} x {of(found.ct)} of {of(found.tr)} x {of(found.tc)}{groups}; weights {stays}"),
        ("MAC clocks", f"{of(found.compute)}, at {of(rows.width.rate)} MACs of a unit a clock = "
         f"{of(found.compute / rows.width.rate)}; busy units "
         f"{float(one.macs[0] / (found.compute[0] * design.mac_units)):.1%}"),
        ("words", f"in {of(found.words_in)}, second operand {of(found.words_weight)}, out {of(found.words_out)}; "
         f"{of(rows.width.first_bytes)}, {of(rows.width.second_bytes)} and {of(rows.width.out_bytes)} byte each"),
    ]  # fmt: skip


def _only(work: Work, row: int) -> Work:
    """Return the work of one row, at the first point."""

    def at(column: Any) -> Any:
        return column[row : row + 1] if column.ndim == 1 else column[row : row + 1, 0]

    columns = ("macs", "flops", "read_bytes", "written_bytes")
    by_row = {name: getattr(work, name)[row : row + 1] for name in ("kernel", "dtype", "launches", "bits", "part")}
    return dataclasses.replace(
        work,
        **{name: at(getattr(work, name)) for name in columns},
        **by_row,
        nest={name: at(column) for name, column in work.nest.items()},
        row_of_op=np.zeros(1, dtype=np.int64),
        runs=np.ones(1),
    )
