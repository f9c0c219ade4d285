"""What each layer of a step takes, in the order in which they run, stacked by phase."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.pictures.style import PHASE_COLOURS, key, picture, scaled, unit_of, with_unit
from analysis.table import shortened
from simulator.errors import TrainwattError, unknown
from simulator.graph import PHASES
from simulator.report import Report

QUANTITIES = {"latency_s": "time", "energy_j": "energy", "macs": "MACs", "traffic_bytes": "memory traffic"}
"""What can be drawn, and how its axis is called."""


def stacked(report: Report, quantity: str) -> dict[str, Any]:
    """Return the amounts of a quantity by layer, in the order of their first op, each of shape (phases,)."""
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    ops = report.ops
    column = ops.read_bytes + ops.written_bytes if quantity == "traffic_bytes" else getattr(ops, quantity)
    found: dict[str, Any] = {}
    for op, amount in zip(report.graph.ops, column.tolist(), strict=True):
        found.setdefault(op.layer, np.zeros(len(PHASES)))[PHASES.index(op.phase)] += amount
    return found


def draw(report: Report, path: str, *, quantity: str = "latency_s", top: int = 30) -> None:
    """Write the `top` layers that take most of `quantity`, the others as one bar below.

    Raises `TrainwattError` for a quantity that is none of `QUANTITIES`, where nothing of it is known, and where the
    picture cannot be written.
    """
    found = stacked(report, quantity)
    totals = {layer: float(amounts.sum()) for layer, amounts in found.items()}
    whole = sum(totals.values())
    if not (np.isfinite(whole) and whole > 0):
        raise TrainwattError(f"no {QUANTITIES[quantity]} known on {report.device}; choose another quantity")
    kept = set(sorted(totals, key=lambda layer: -totals[layer])[:top])
    rows = {layer or "(no layer)": amounts for layer, amounts in found.items() if layer in kept}
    others = [amounts for layer, amounts in found.items() if layer not in kept]
    if others:
        rows[f"{len(others)} other layers"] = np.sum(others, axis=0)
    scale, unit = scaled([float(amounts.sum()) for amounts in rows.values()], unit_of(quantity))
    with picture(path, height_in=1.2 + 0.15 * len(rows)) as figure:
        axes = figure.add_subplot()
        left = np.zeros(len(rows))
        for k, phase in enumerate(PHASES):
            widths = np.array([amounts[k] for amounts in rows.values()]) / scale
            if widths.any():
                axes.barh(range(len(rows)), widths, left=left, height=0.8, color=PHASE_COLOURS[phase], label=phase)
            left += widths
        axes.set_yticks(range(len(rows)), [shortened(layer, 30) for layer in rows], fontsize=7)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.grid(False, axis="y")
        axes.set_xlabel(with_unit(QUANTITIES[quantity], unit))
        mode = f", {report.mode}" if report.mode else ""
        key(figure, f"{report.network}, batch {report.graph.batch}, on {report.device}{mode}")
