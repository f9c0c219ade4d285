"""Text with units, read once, at the edge: `parse("25.6 GB/s", "byte/s")` is 25.6e9. Inside, all is SI."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from simulator.errors import TrainwattError


class _Unit(NamedTuple):
    """How a unit is written; the first symbol is shown. `small`: prefixes below one, `binary`: Ki to Ti."""

    symbols: tuple[str, ...]
    small: bool
    binary: bool
    example: str


_UNITS: Mapping[str, _Unit] = {
    "byte": _Unit(("B", "byte", "bytes"), False, True, "1.5 GB"),
    "byte/s": _Unit(("B/s", "byte/s"), False, True, "25.6 GB/s"),
    "byte/cycle": _Unit(("B/cycle", "byte/cycle"), False, False, "16 B/cycle"),
    "s": _Unit(("s",), True, False, "12.3 ms"),
    "Hz": _Unit(("Hz",), False, False, "921.6 MHz"),
    "J": _Unit(("J",), True, False, "2 kJ"),
    "W": _Unit(("W",), True, False, "5 W"),
    "FLOP": _Unit(("FLOP",), False, False, "3.6 GFLOP"),
    "FLOP/s": _Unit(("FLOP/s",), False, False, "236 GFLOP/s"),
    "FLOP/cycle": _Unit(("FLOP/cycle",), False, False, "16 FLOP/cycle"),
    "MAC": _Unit(("MAC",), False, False, "1.82 GMAC"),
    "MAC/s": _Unit(("MAC/s",), False, False, "118 GMAC/s"),
    "J/FLOP": _Unit(("J/FLOP",), True, False, "20 pJ/FLOP"),
    "J/byte": _Unit(("J/B", "J/byte"), True, False, "64 pJ/byte"),
    "": _Unit(("",), False, False, "0.74"),
}

_SMALL = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
_LARGE = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_CLOCK = {"min": 60.0, "h": 3600.0}
_SHOWN_SMALL = ((1e-15, "f"), (1e-12, "p"), (1e-9, "n"), (1e-6, "u"), (1e-3, "m"))
_SHOWN_LARGE = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"))
_TEXT = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*(\S*)")


def _factors(unit: str) -> dict[str, float]:
    """Return every way to write `unit` with its size in the base unit."""
    form = _UNITS[unit]
    if not unit:
        return {"": 1.0}
    prefixes = {**_LARGE, **(_SMALL if form.small else {}), **(_BINARY if form.binary else {})}
    written = {prefix + symbol: factor for symbol in form.symbols for prefix, factor in prefixes.items()}
    return {"": 1.0, **written, **(_CLOCK if unit == "s" else {})}


_FACTORS = {unit: _factors(unit) for unit in _UNITS}


def parse(value: str | float, unit: str) -> float:
    """Return a quantity in the base unit `unit`; a plain number is in the base unit already.

    Raises `TrainwattError` for text that is no finite number of that unit: `'25.6 GHz' is no byte/s; ...`.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif isinstance(value, str) and (match := _TEXT.fullmatch(value.strip())):
        factor = _FACTORS[unit].get(match[2])
        if factor is not None and math.isfinite(number := float(match[1]) * factor):
            return number
    raise TrainwattError(f"{value!r} is no {unit or 'plain number'}; write for example {_UNITS[unit].example!r}")


def show(value: float, unit: str) -> str:
    """Return `value`, in the base unit `unit`, as short text of three significant digits: `"1.52 GB"`.

    Times from two minutes on are in minutes or hours. What `show` writes, `parse` reads.
    """
    form = _UNITS[unit]
    symbol = form.symbols[0]
    size = abs(value)
    if unit == "s" and 120 <= size < math.inf:
        scale, symbol = (60.0, "min") if size < 7200 else (3600.0, "h")
        return f"{value / scale:.3g} {symbol}"
    if not unit or not math.isfinite(value) or value == 0:
        return f"{value:.3g} {symbol}".rstrip()
    steps = (_SHOWN_SMALL if form.small else ()) + (_SHOWN_LARGE[:1] if unit == "s" else _SHOWN_LARGE)
    rounded = float(f"{size:.3g}")
    scale, prefix = next((step for step in reversed(steps) if rounded >= step[0]), steps[0])
    return f"{value / scale:.3g} {prefix}{symbol}"
