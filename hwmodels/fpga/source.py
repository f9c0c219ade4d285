"""What the file of an FPGA board says, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwmodels import reading
from hwmodels.fpga.design import Design, read_design
from hwmodels.numbers import Number

TEXTS = ("description", "energy_scope", "default_mode")

_COUNTS = ("dsp", "bram18", "uram", "lut", "ff")
_USABLE = tuple(f"usable_{name}" for name in _COUNTS)
_CONTROLLER = ("controller_lut", "controller_ff")

TABLES: Mapping[str, Mapping[str, str]] = {
    "memory": {"total": "byte", "system": "byte", "runtime": "byte"},
    "board": dict.fromkeys((*_COUNTS, *_USABLE, *_CONTROLLER), ""),
    "bandwidth": {"peak": "byte/s", "efficiency": ""},
    "launch": {"time": "s"},
    "power": {"static": "W"},
    "energy": {"dsp": "J", "bram18": "J", "lut": "J", "traffic": "J/byte"},
}
"""The tables of a board's file beside [design] and [modes], their numbers and units."""

_MAY_BE_ZERO = ("system", "runtime", "uram", *_CONTROLLER, "time", "dsp", "bram18", "lut", "traffic")
_AT_MOST_ONE = ("efficiency", *_USABLE)


@dataclass(frozen=True)
class Source:
    """A board's file: its texts, its numbers by dotted path, its modes and its own design."""

    texts: Mapping[str, str]
    numbers: Mapping[str, Number]
    modes: tuple[str, ...]
    design: Design


def read_source(data: Mapping[str, Any]) -> Source:
    """Return what the file says; raises `TrainwattError` for the first thing that is wrong in it."""
    reading.known(data, ("model", *TEXTS, *TABLES, "design", "modes"), "")
    texts = {name: reading.text(data, name) for name in TEXTS}
    numbers: dict[str, Number] = {}
    for table, units in TABLES.items():
        zero = tuple(name for name in _MAY_BE_ZERO if table != "board" or name in ("uram", *_CONTROLLER))
        entries = reading.table(data, table)
        numbers |= reading.numbers(
            entries, table, units, may_be_zero=zero, at_most_one=_AT_MOST_ONE, whole=_COUNTS if table == "board" else ()
        )
    modes = reading.table(data, "modes")
    for mode in modes:
        numbers |= reading.numbers(reading.table(modes, mode, "modes."), f"modes.{mode}", {"clock": "Hz"})
    return Source(texts, numbers, tuple(modes), read_design(reading.table(data, "design")))
