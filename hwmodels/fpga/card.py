"""What is known of an FPGA and its design: the card, and what is assumed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hwmodels.fpga.resources import NAMES
from hwmodels.numbers import Number, derived

if TYPE_CHECKING:
    from hwmodels.fpga.model import Fpga
    from hwmodels.fpga.source import Source

_OURS = (
    "the engine and its vector lanes run every op of the step one after another; nothing is fused across ops",
    "with two buffers, loads and stores hide behind computing to the last tile; the first load and last store do too",
    "the input gradient of a strided convolution skips the taps that meet no position (no zeros are inserted)",
    "words of floats are no wider in memory than the engine's, while peak memory is that of the graph's dtypes",
    "kernel workspace is not counted: tiles are on the chip",
    "routing, timing closure and voltage are not modelled: the clock is taken as given",
)


def assumptions(model: Fpga, source: Source) -> tuple[str, ...]:
    """Return what is assumed of the board, its design and by the model, in one line each."""
    used = {path: number for path, number in source.numbers.items() if not path.startswith("modes.")}
    used[f"mode.{model.mode}.clock"] = source.numbers[f"modes.{model.mode}.clock"]
    used |= {f"design.{name}": number for name, number in model.design.numbers.items()}
    operator = model.design.operator
    used |= {f"{model.design.precision}.{name}": getattr(operator, name) for name in ("dsp", "lut", "ff")}
    used |= {f"{model.design.precision}.packing of {bits} bits": n for bits, n in operator.packing.items()}
    lines = [f"{path} {number}: {number.source}" for path, number in used.items() if number.kind == "assumed"]
    if model.missing:
        lines.insert(0, f"the design does not fit {model.name}: {', '.join(model.missing)}")
    if model.design.precision.startswith("int"):
        lines.append(
            f"floats of the graph are {operator.bits}-bit fixed point on the engine; accuracy is not looked at"
        )
    return (*lines, *_OURS)


def card(
    model: Fpga, source: Source, *, clock: Number, bandwidth: Number, usable: Number, lines: tuple[str, ...]
) -> Fpga:
    """Return the model with its card and its assumptions."""
    design, numbers = model.design, source.numbers
    tm, tn = design.numbers["tm"], design.numbers["tn"]
    rate = f"2 x {tm} x {tn} x {clock}"
    peak = derived(2 * design.mac_units * clock.value, "FLOP/s", rate, tm, tn, clock)

    def entries(table: str) -> dict[str, object]:
        start = table + "."
        return {path[len(start) :]: n.entry for path, n in numbers.items() if path.startswith(start)}

    taken = model.resources
    found = {
        "name": model.name,
        **source.texts,
        "processor": "fpga",
        "unit": "MAC unit",
        "mode": model.mode,
        "modes": list(source.modes),
        "design": {
            "description": design.description,
            "precision": design.precision,
            "arithmetic": design.arithmetic,
            **{name: number.entry for name, number in design.numbers.items()},
        },
        "resources": {name: f"{getattr(taken, name):,.0f} of {getattr(model.board, name):,.0f}" for name in NAMES},
        "fits": "yes" if not model.missing else f"no: {', '.join(model.missing)}",
        "peaks": {design.precision: peak.entry},
        "bandwidths": {"peak": numbers["bandwidth.peak"].entry, "effective": bandwidth.entry},
        "efficiencies": {"bandwidth": numbers["bandwidth.efficiency"].entry},
        "launch": entries("launch"),
        "powers": entries("power"),
        "energies": entries("energy"),
        "memory": {**entries("memory"), "usable": usable.entry},
        "clocks": {"clock": clock.entry},
        "board": entries("board"),
        "compute": {name: getattr(design.operator, name).entry for name in ("dsp", "lut", "ff")},
    }
    return dataclasses.replace(model, card=found, assumptions=lines)
