"""What techniques save: bars of time, energy and memory against the same step without them, by technique and device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.pictures.style import COLOURS, WIDE_IN, key, picture
from analysis.table import shortened
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.report import Report
from simulator.techniques import Technique, apply

_QUANTITIES: Mapping[str, Callable[[Report], float]] = {
    "time": lambda report: report.total.latency_s,
    "energy": lambda report: report.total.energy_j,
    "peak memory": lambda report: float(report.memory.peak_bytes),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """What a technique leaves of a quantity on a device, as a fraction of the untreated step."""

    technique: str
    device: str
    quantity: str
    fraction: float


def bars(graph: Graph, hardware: Sequence[HardwareModel], techniques: Mapping[str, Sequence[Technique]]) -> list[Bar]:
    """Return a bar for each technique (a text and what it stands for), device and quantity."""
    found = []
    before = [estimate(graph, device) for device in hardware]
    for text, applied in techniques.items():
        treated = apply(tuple(applied), graph)
        for baseline, device in zip(before, hardware, strict=True):
            report = estimate(treated, device)
            for name, value in _QUANTITIES.items():
                # A device whose energy is not known has none to save, and no bar.
                found.append(Bar(text, _called(device), name, value(report) / value(baseline)))
    return found


def draw(found: Sequence[Bar], path: str, *, title: str) -> None:
    """Write the bars as a picture of one panel for each quantity.

    Raises `TrainwattError` where there is no bar and where the picture cannot be written.
    """
    if not found:
        raise TrainwattError("no techniques to compare; give at least one")
    techniques = list(dict.fromkeys(bar.technique for bar in found))
    devices = list(dict.fromkeys(bar.device for bar in found))
    quantities = list(dict.fromkeys(bar.quantity for bar in found))
    most = max(1.0, *(bar.fraction for bar in found if np.isfinite(bar.fraction)))
    height = 1.1 + 0.2 * len(devices) * len(techniques) + 0.12 * len(techniques)
    thick = 0.84 / len(devices)
    with picture(path, width_in=WIDE_IN, height_in=height) as figure:
        panels = figure.subplots(1, len(quantities), sharey=True)
        for panel, quantity in zip(panels, quantities, strict=True):
            for number, device in enumerate(devices):
                own = [bar for bar in found if bar.quantity == quantity and bar.device == device]
                places = [techniques.index(bar.technique) + (number - (len(devices) - 1) / 2) * thick for bar in own]
                widths = [100 * bar.fraction for bar in own]
                colour = COLOURS[number % len(COLOURS)]
                drawn = panel.barh(places, widths, height=thick * 0.92, color=colour, label=device)
                written = panel.bar_label(drawn, [_said(w) for w in widths], padding=2, fontsize=7)
                for label in written:
                    label.set_bbox({"facecolor": "white", "linewidth": 0, "alpha": 0.85, "pad": 0.6})
            panel.axvline(100, color="black", linewidth=0.8, linestyle=":", zorder=0.5)
            panel.set(xlim=(0, 100 * most * 1.25), title=quantity)
            panel.grid(False, axis="y")
        panels[0].set_yticks(range(len(techniques)), [_wrapped(t) for t in techniques])
        panels[0].invert_yaxis()
        figure.supxlabel(f"% of the step without techniques ({title})", fontsize=9)
        key(figure)


def _said(percent: float) -> str:
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.1f}"


def _wrapped(text: str) -> str:
    """Return the text of techniques with one on a line."""
    return "\n".join(shortened(part, 34) for part in text.replace("},", "}\n").split("\n"))


def _called(device: HardwareModel) -> str:
    mode: Any = device.card.get("mode")
    return f"{device.name}, {mode}" if mode else device.name
