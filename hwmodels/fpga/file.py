"""From the file of an FPGA board to its pricing model, with the file's own design or another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwmodels.fpga.card import assumptions, card
from hwmodels.fpga.design import Design
from hwmodels.fpga.model import Fpga
from hwmodels.fpga.resources import Board
from hwmodels.fpga.source import Source, read_source
from hwmodels.numbers import Number, derived
from simulator.errors import TrainwattError
from simulator.units import show


def build(name: str, data: Mapping[str, Any], mode: str) -> Fpga:
    """Return the board `name` that a file's `data` describe, in `mode`, with the file's own design."""
    source = read_source(data)
    return made(name, mode, source, source.design)


def with_design(board: Fpga, design: Design) -> Fpga:
    """Return the same board with another design; a clock of the design's own replaces that of the mode."""
    if board.source is None:
        raise TrainwattError(f"{board.name} was made without a file; a design goes on a board that has one")
    return made(board.name, board.mode, board.source, design)


def made(name: str, mode: str, source: Source, design: Design) -> Fpga:
    """Return the model of a board in `mode` with `design` on it."""

    def of(path: str) -> Number:
        return source.numbers[path]

    clock = design.numbers.get("clock", of(f"modes.{mode}.clock"))
    peak, share = of("bandwidth.peak"), of("bandwidth.efficiency")
    bandwidth = derived(peak.value * share.value, "byte/s", f"{share} of {peak}", peak, share)
    total, system, runtime = (of(f"memory.{part}") for part in ("total", "system", "runtime"))
    held = system.value + runtime.value
    if total.value <= held:
        raise TrainwattError(f"memory.total {total}; it must be above the {show(held, 'byte')} that is held")
    formula = f"{total} less {system} of the system and {runtime} of the framework"
    usable = derived(total.value - held, "byte", formula, total, system, runtime)
    counts = {path.partition(".")[2]: n.value for path, n in source.numbers.items() if path.startswith("board.")}
    model = Fpga(
        name=name,
        mode=mode,
        board=Board(**counts),
        design=design,
        clock_hz=clock.value,
        byte_per_s=bandwidth.value,
        launch_s=of("launch.time").value,
        static_w=of("power.static").value,
        dsp_j=of("energy.dsp").value,
        bram_j=of("energy.bram18").value,
        lut_j=of("energy.lut").value,
        byte_j=of("energy.traffic").value,
        memory_bytes=usable.value,
        source=source,
    )
    return card(model, source, clock=clock, bandwidth=bandwidth, usable=usable, lines=assumptions(model, source))
