"""Devices of a space: a name or file, a power mode and, of an FPGA board, the design on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from analysis.explore import grid
from hwmodels.device import device, modes
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError, unknown
from simulator.units import parse as quantity
from simulator.work import Floats

RESOURCES = ("dsp", "bram18", "uram", "lut", "ff")
"""What a design takes of an FPGA."""

_CHOICES = ("precision", "arithmetic")
_KEYS = ("name", "modes", "design")


@dataclass(frozen=True, slots=True)
class DeviceMode:
    """A device's name, what to read it from (a name or a file), and one of its power modes.

    `design` are the numbers and texts of the FPGA design that differ from those of the file, or from those of
    `design_file`, where that is not empty.
    """

    name: str
    source: str
    mode: str
    design: tuple[tuple[str, float | str], ...] = ()
    design_file: str = ""

    def model(self) -> HardwareModel:
        """Return the device's pricing model; one object for each device."""
        return _model(self)

    @property
    def design_text(self) -> str:
        """What of the design is another one than the device file's."""
        file = (Path(self.design_file).name,) if self.design_file else ()
        return ",".join([*file, *(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.design)])


@dataclass(frozen=True, slots=True)
class Boards:
    """Columns of devices: usable `memory_bytes` (devices,), `resources` of FPGA designs (devices, len(RESOURCES)), not
    a number where there is none, and `lacking`, what a design takes that its board has not, empty where it fits.
    """

    memory_bytes: Floats
    resources: Floats = field(hash=False)
    lacking: tuple[str, ...] = ()


@cache
def boards(devices: tuple[DeviceMode, ...]) -> Boards:
    """Return the columns of devices."""
    models = [one.model() for one in devices]
    taken = [getattr(model, "resources", None) for model in models]
    lacking = [", ".join(getattr(model, "missing", ())) for model in models]
    return Boards(
        np.array([model.memory_bytes for model in models]),
        np.array([[float(getattr(r, name)) if r else np.nan for name in RESOURCES] for r in taken]),
        tuple(f"board lacks {text}" if text else "" for text in lacking),
    )


def devices_of(entries: list[Any], folder: Path) -> tuple[DeviceMode, ...]:
    """Return the devices that the entries of `devices` stand for: each in each of its modes with each of its designs.

    Raises `TrainwattError` for what is no device, mode or design.
    """
    found: dict[DeviceMode, None] = {}
    for entry in entries:
        table = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("name"), str):
            raise TrainwattError(f"device {entry!r}; write a name or {{name = 'jetson-nano', modes = 'all'}}")
        given = table["name"]
        for key in table:
            if key not in _KEYS:
                raise unknown(f"key in device {given!r}", key, _KEYS, f"there is {', '.join(_KEYS)}")
        source = str((folder / given).resolve()) if given.endswith(".toml") else given
        wanted = table.get("modes", [None])
        if wanted == "all":
            wanted = list(modes(source))
        if not isinstance(wanted, list) or not wanted or not all(m is None or isinstance(m, str) for m in wanted):
            raise TrainwattError(f"modes = {wanted!r} of {given}; it is 'all' or a list of power modes")
        for mode in wanted:
            model = device(source, mode)
            plain = DeviceMode(model.name, source, str(model.card["mode"]))
            for one in _designed(plain, table["design"], folder) if "design" in table else (plain,):
                found[one] = None
    return tuple(found)


def _designed(plain: DeviceMode, table: Any, folder: Path) -> Iterator[DeviceMode]:
    """Yield a device with each of the designs of a table, the last key varying fastest."""
    from hwmodels.fpga.design import UNITS

    if not hasattr(plain.model(), "design"):
        raise TrainwattError(f"a design for {plain.name}; designs are for FPGA boards, such as zcu102")
    if not isinstance(table, dict) or not table:
        raise TrainwattError(f"design = {table!r} of {plain.name}; write a table such as {{tm = [8, 16], tn = 8}}")
    known = ("file", *_CHOICES, *UNITS)
    values: dict[str, list[float | str]] = {}
    for key, value in table.items():
        if key not in known:
            raise unknown("number of a design", key, known, f"there is {', '.join(known)}")
        listed = value if isinstance(value, list) else [value]
        values[key] = [one for v in listed for one in _values(key, v, UNITS)]
        if not values[key]:
            raise TrainwattError(f"{key} = {value!r} in the design of {plain.name}; it is a value or a list of values")
    for chosen in product(*values.values()):
        said = dict(zip(values, chosen, strict=True))
        file = said.pop("file", "")
        one = replace(
            plain, design=tuple(said.items()), design_file=str((folder / str(file)).resolve()) if file else ""
        )
        one.model()  # what is wrong with it is said now
        yield one


def _values(key: str, value: Any, units: Mapping[str, str]) -> list[float | str]:
    """Return the values that one entry of a design stands for. Raises `TrainwattError` for what is none."""
    if key == "file" or key in _CHOICES:
        if not isinstance(value, str) or not value:
            raise TrainwattError(f"{key} = {value!r} of a design; it is a text")
        return [value]
    if isinstance(value, str) and (several := grid.span(value)):
        return [float(one) for one in several]
    try:
        found = float(value) if isinstance(value, int) and not isinstance(value, bool) else quantity(value, units[key])
    except TrainwattError as error:
        raise TrainwattError(f"{key} of a design: {error}") from None
    whole = key not in ("clock", "stream_width")
    if found <= 0 or (whole and found != int(found)):
        raise TrainwattError(f"{key} = {value!r} of a design; it is {'a whole number' if whole else 'a value'} above 0")
    return [found]


@cache
def _model(of: DeviceMode) -> HardwareModel:
    model = device(of.source, of.mode)
    if not of.design and not of.design_file:
        return model
    from hwmodels.fpga import design_file, with_design
    from hwmodels.fpga.model import Fpga

    assert isinstance(model, Fpga)
    design = design_file(of.design_file) if of.design_file else model.design
    texts = {key: value for key, value in of.design if key in _CHOICES}
    numbers = {key: value for key, value in of.design if key not in _CHOICES}
    changed = replace(design, **texts)  # type: ignore[arg-type]  # texts by name
    return with_design(model, changed.changed("the explored space", **numbers))  # type: ignore[arg-type]  # floats
