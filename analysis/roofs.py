"""A device's roofline: attainable FLOP/s over arithmetic intensity, as text for a terminal.

attainable = min(peak, bandwidth * intensity), for the peak of each precision and each bandwidth on the card [Williams,
Waterman, Patterson, "Roofline", CACM 52(4), 2009].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulator.units import show

INTENSITIES = 2.0 ** np.linspace(-4, 10, 57)
"""FLOP/byte along the axis."""
ROWS = 12


def peaks(card: Mapping[str, Any]) -> dict[str, float]:
    """Return the peak rates of a device card, FLOP/s by dtype, the highest first."""
    found = {name: float(entry["value"]) for name, entry in card["peaks"].items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def bandwidths(card: Mapping[str, Any]) -> dict[str, float]:
    """Return the bandwidths of a device card, byte/s by name, the highest first."""
    entries = card["bandwidths"].items()
    found = {name: float(entry["value"]) for name, entry in entries if entry["unit"] == "byte/s"}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def text(card: Mapping[str, Any]) -> str:
    """Return the roofline of each precision over the highest bandwidth, drawn with letters."""
    top = peaks(card)
    name, bandwidth = next(iter(bandwidths(card).items()))
    high = np.log2(max(top.values()))
    low = np.log2(bandwidth * INTENSITIES[0])
    grid = [[" "] * len(INTENSITIES) for _ in range(ROWS)]
    letters = {}
    for dtype, peak in reversed(top.items()):
        letter = letters[dtype] = chr(ord("a") + list(top).index(dtype))
        for column, intensity in enumerate(INTENSITIES):
            level = (np.log2(min(peak, bandwidth * intensity)) - low) / max(high - low, 1e-9)
            grid[ROWS - 1 - round(float(level) * (ROWS - 1))][column] = letter
    lines = [f"roofline (log scales; {name} bandwidth {show(bandwidth, 'byte/s')})"]
    for row, cells in enumerate(grid):
        rate = 2.0 ** (low + (high - low) * (ROWS - 1 - row) / (ROWS - 1))
        lines.append(f"  {show(rate, 'FLOP/s'):>13} |{''.join(cells)}".rstrip())
    marks = " " * 16 + "+" + "-" * len(INTENSITIES)
    scale = " " * 17 + "".join(f"{f'{2.0**p:g}':<8}" for p in range(-4, 11, 2))
    legend = ", ".join(
        f"{letters[d]} {d} {show(p, 'FLOP/s')}, from {p / bandwidth:.3g} FLOP/byte" for d, p in top.items()
    )
    return "\n".join([*lines, marks, f"{scale} FLOP/byte", f"  {legend}"])
