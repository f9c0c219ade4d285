"""Which rails are the whole board."""

from __future__ import annotations

from collections.abc import Iterable

INPUTS = ("VDD_IN", "POM_5V_IN")
"""Rails of Jetson boards that everything flows through: TX2, Xavier NX, Orin NX and Nano; Nano (jetson_stats)."""


def board_total(names: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Return the rails that make up the power of the whole board, and what that is in words.

    AGX Xavier and AGX Orin measure no input: there it is the sum of all rails.
    """
    rails = tuple(names)
    for name in INPUTS:
        if name in rails:
            return (name,), f"{name}, the board's input"
    return rails, f"sum of {len(rails)} rails" if len(rails) > 1 else "".join(rails)
