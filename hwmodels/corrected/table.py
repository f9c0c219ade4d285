"""The table `calibration` of a device file: corrections as plain numbers.

[calibration]
source = "board.csv, 353 rows ..."
[calibration.factors]          log-factors by class, "all" for every op
[calibration.errors]           their standard errors
[calibration.ranges.CLASS]     least and largest: lists of the features of `features.SHAPE`
[[calibration.smooth]]         of = CLASS, length, weights = [...], centres = [[...], ...], features (default all)
[calibration.interval]         coverage, low, high: measured over predicted
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwmodels import reading
from hwmodels.corrected.correction import Correction, Smooth
from hwmodels.corrected.features import SHAPE, is_class
from hwmodels.corrected.model import Corrected, Interval
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError, unknown
from simulator.work import KERNELS, Floats

FIELDS = ("source", "factors", "errors", "ranges", "smooth", "interval")
EVERY_OP = "all"


def corrected_device(model: HardwareModel, table: Mapping[str, Any]) -> Corrected:
    """Return `model` as the table corrects it. Raises `TrainwattError` for a field or number that cannot be."""
    reading.known(table, FIELDS, "calibration")
    factors = _factors(table)
    ranges = {
        name: _matrix([ends.get("least"), ends.get("largest")], f"calibration.ranges.{name}")
        for name, ends in _tables(table, "ranges")
    }
    smooth = tuple(_smooth(part, i) for i, part in enumerate(table.get("smooth", ())))
    return Corrected(model, Correction(factors, smooth, ranges), reading.text(table, "source"), _interval(table))


def table_of(
    correction: Correction, errors: Mapping[str, float], source: str, interval: Interval | None
) -> dict[str, Any]:
    """Return the table that `corrected_device` makes the same correction of, to six digits."""

    def rounded(values: Floats) -> list[Any]:
        listed: list[Any] = np.vectorize(lambda v: float(f"{v:.6g}"))(values).tolist() if values.size else []
        return listed

    table: dict[str, Any] = {
        "source": source,
        "factors": {name or EVERY_OP: float(f"{g:.6g}") for name, g in correction.factors.items()},
        "errors": {name or EVERY_OP: float(f"{e:.4g}") for name, e in errors.items()},
        "ranges": {
            name: {"least": rounded(ends[0]), "largest": rounded(ends[1])} for name, ends in correction.ranges.items()
        },
    }
    if interval is not None:
        table["interval"] = {
            "coverage": interval.coverage,
            "low": float(f"{interval.low:.4g}"),
            "high": float(f"{interval.high:.4g}"),
        }
    table["smooth"] = [
        {
            "by": part.by,
            "of": part.of,
            "length": part.length,
            "features": list(part.features),
            "weights": rounded(part.weights),
            "centres": rounded(part.centres),
        }
        for part in correction.smooth
    ]
    return table


def _factors(table: Mapping[str, Any]) -> dict[str, float]:
    factors = reading.table(table, "factors", "calibration.")
    _check_classes(factors, "calibration.factors")
    return {("" if n == EVERY_OP else n): _float(v, f"calibration.factors.{n}") for n, v in factors.items()}


def _check_classes(table: Mapping[str, Any], where: str) -> None:
    for name in table:
        if name != EVERY_OP and not is_class(name):
            raise unknown("class of ops", name, [EVERY_OP, *KERNELS], see=f"in {where} there is 'elementwise.relu'")


def _tables(table: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = reading.table(table, name, "calibration.") if name in table else {}
    _check_classes(found, f"calibration.{name}")
    return [(key, reading.table(found, key, f"calibration.{name}.")) for key in found]


def _smooth(part: Any, number: int) -> Smooth:
    where = f"calibration.smooth {number + 1}"
    if not isinstance(part, Mapping):
        raise TrainwattError(f"{where} is {part!r}; it must be a table")
    reading.known(part, ("by", "of", "length", "features", "weights", "centres"), where)
    features = part.get("features", SHAPE)
    if not isinstance(features, list | tuple):
        raise TrainwattError(f"{where} has features {features!r}; they must be a list of names")
    weights = _matrix([part.get("weights")], where, columns=None)[0]
    length, centres = _float(part.get("length"), where), _matrix(part.get("centres"), where, len(features))
    return Smooth(reading.text(part, "of"), length, centres, weights, reading.text(part, "by"), tuple(features))


def _interval(table: Mapping[str, Any]) -> Interval | None:
    if "interval" not in table:
        return None
    given = reading.table(table, "interval", "calibration.")
    reading.known(given, ("coverage", "low", "high"), "calibration.interval")
    coverage, low, high = (_float(given.get(n), f"calibration.interval.{n}") for n in ("coverage", "low", "high"))
    if not (0 < coverage < 1 and 0 < low <= high):
        raise TrainwattError(f"calibration.interval {given}; coverage is between 0 and 1, low above 0 and below high")
    return Interval(coverage, low, high)


def _float(given: Any, where: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not np.isfinite(given):
        raise TrainwattError(f"{where} {given!r}; it must be a finite number")
    return float(given)


def _matrix(given: Any, where: str, columns: int | None = len(SHAPE)) -> Floats:
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.ndim != 2 or (columns is not None and found.shape[1] != columns) or not np.isfinite(found).all():
        raise TrainwattError(f"{where}: lists of {columns or 'finite'} numbers are missing or of unequal length")
    return found
