"""The numbers of a device file that measurements may move: those that were assumed or fitted, within physics."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hwmodels.device import CALIBRATION, build, read_file
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.work import Floats, Work

FREE_KINDS = ("assumed", "fitted")
"""Kinds of numbers that a fit may move; what a datasheet says or somebody measured stays."""
TABLES_OF_ENERGY = ("energy", "power")
UNTOUCHED = ("memory", "modes", *TABLES_OF_ENERGY)
"""Tables whose numbers decide about no time of an op."""
LARGEST_FACTOR = 8.0
"""No number moves by more: beyond that the device is another one."""
ODD = 1.0371
"""Times this, a whole number is none."""
SPREAD_OF = {"assumed": np.log(2.0), "fitted": np.log(1.5)}
"""How far a number may be off before anything is measured, as the standard deviation of its logarithm."""


@dataclass(frozen=True)
class Parameters:
    """Free numbers of the device of a file in a mode. `paths` are those of the file, as `kernels.start`; `start` are
    their values in the file, in its units, `least` and `largest` what physics leaves, `spread` the standard deviation
    of the prior of their logarithms; each of shape (numbers,)."""

    name: str
    data: Mapping[str, Any] = field(repr=False)
    mode: str
    paths: tuple[str, ...]
    start: Floats
    least: Floats
    largest: Floats
    spread: Floats

    @cached_property
    def base(self) -> HardwareModel:
        """The device as the file describes it."""
        return build(self.name, self.data, self.mode)

    def device(self, values: Sequence[float] | Floats) -> HardwareModel:
        """Return the device with other numbers. Raises `TrainwattError` where one is impossible."""
        return build(self.name, with_values(self.data, dict(zip(self.paths, values, strict=True))), self.mode)

    def only(self, chosen: Sequence[bool] | np.ndarray[Any, Any]) -> Parameters:
        """Return those of the numbers that `chosen`, of shape (numbers,), says."""
        mask = np.asarray(chosen, dtype=bool)
        kept = tuple(path for path, keep in zip(self.paths, mask, strict=True) if keep)
        columns = (self.start[mask], self.least[mask], self.largest[mask], self.spread[mask])
        return Parameters(self.name, self.data, self.mode, kept, *columns)


def parameters_of(name_or_path: str | Path, mode: str | None = None) -> Parameters:
    """Return the free numbers of a device that decide about time. Raises `TrainwattError` as `hwmodels.device`."""
    name, data, chosen = read_file(name_or_path, mode)
    if CALIBRATION in data:
        raise TrainwattError(f"device {name!r} is calibrated already; give the one that it was fitted from")
    found: list[tuple[str, float, float, float, float]] = []
    for path, entry in entries(data):
        if entry["kind"] not in FREE_KINDS or path.partition(".")[0] in UNTOUCHED:
            continue
        value = number_in(entry["value"])
        if value <= 0:
            continue
        bounds = _bounds(name, data, chosen, path, value)
        if bounds is not None:
            found.append((path, value, *bounds, SPREAD_OF[entry["kind"]]))
    columns = np.array([row[1:] for row in found], dtype=np.float64).reshape(-1, 4)
    return Parameters(name, data, chosen, tuple(row[0] for row in found), *columns.T)


def sensitive(parameters: Parameters, work: Work) -> Parameters:
    """Return those of the numbers that change the time of any of the rows of `work`, or of its dispatch."""

    def prices(model: HardwareModel) -> Floats:
        cost = model.price(work)
        return np.stack([cost.latency_s, np.zeros_like(cost.latency_s) if cost.dispatch_s is None else cost.dispatch_s])

    here = prices(parameters.base)
    kept = []
    for i, value in enumerate(parameters.start):
        values = parameters.start.copy()
        values[i] = np.clip(value * 1.05, parameters.least[i], parameters.largest[i])
        if values[i] == value:
            values[i] = value / 1.05
        kept.append(not np.allclose(prices(parameters.device(values)), here, rtol=1e-9, atol=0.0))
    return parameters.only(kept)


def with_values(data: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """Return the contents of a device file with other values of some numbers, each in its unit there."""
    changed = copy.deepcopy(dict(data))
    for path, value in values.items():
        entry = changed
        for part in path.split("."):
            entry = entry[part]
        entry["value"] = written(entry["value"], value)
    return changed


def number_in(given: Any) -> float:
    """Return the number that a device file gives, in the unit in which it is written there."""
    return float(given.split()[0]) if isinstance(given, str) else float(given)


def written(given: Any, value: float) -> Any:
    """Return `value` as a device file writes it, in the unit of what it replaces."""
    return f"{value:.6g} {given.split(maxsplit=1)[1]}" if isinstance(given, str) else float(f"{value:.6g}")


def entries(table: Mapping[str, Any], where: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Return the numbers of a device file by dotted path, as the tables that give value, kind and source."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name, entry in table.items():
        if isinstance(entry, Mapping):
            path = f"{where}{name}"
            found += [(path, entry)] if "kind" in entry and "value" in entry else entries(entry, f"{path}.")
    return found


def _bounds(name: str, data: Mapping[str, Any], mode: str, path: str, value: float) -> tuple[float, float] | None:
    """Return the least and largest value of a number that the device can have; None where it cannot move at all."""

    def possible(other: float) -> bool:
        try:
            build(name, with_values(data, {path: other}), mode)
        except TrainwattError:
            return False
        return True

    if not (possible(value * ODD) or possible(value / ODD)):
        return None  # a whole number
    ends = []
    for factor in (1 / LARGEST_FACTOR, LARGEST_FACTOR):
        end = next((value * factor**share for share in (1.0, 0.5, 0.25, 0.05) if possible(value * factor**share)), None)
        if factor > 1 and (end is None or end < 1.0 < value * factor) and possible(1.0):
            end = max(end or 1.0, 1.0)  # a share of a peak
        ends.append(value if end is None else end)
    return None if ends[0] == ends[1] else (ends[0], ends[1])
