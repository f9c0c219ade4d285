"""The fitted device as a file: that of its base with other numbers, and a table of corrections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from analysis.calibration.energies import Energies
from analysis.calibration.fit import Fitted
from analysis.calibration.parameters import written
from hwmodels.corrected.model import Interval
from hwmodels.corrected.table import table_of
from hwmodels.device import CALIBRATION, text_of


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found: of times, and of energies where they were measured. `source` says from what."""

    base: str | Path
    mode: str
    source: str
    fitted: Fitted
    interval: Interval | None
    energies: Energies = field(default_factory=lambda: Energies({}, {}))

    def numbers(self) -> dict[str, tuple[float, float]]:
        """Return the fitted numbers of the file by path, with their relative standard errors."""
        found = {}
        if (numbers := self.fitted.numbers) is not None:
            found = {path: (value, numbers.errors[path]) for path, value in numbers.values.items()}
        return {**found, **{p: (v, self.energies.errors[p]) for p, v in self.energies.values.items()}}

    def table(self) -> dict[str, Any]:
        """Return the table of corrections."""
        return table_of(self.fitted.correction, self.fitted.factor_errors, self.source, self.interval)

    def text(self) -> str:
        """Return the device file, with the comments of its base."""
        document = tomlkit.parse(text_of(self.base))
        for path, (value, error) in self.numbers().items():
            entry: Any = document
            for part in path.split("."):
                entry = entry[part]
            entry["value"] = written(entry["value"], value)
            entry["kind"] = "fitted"
            entry["source"] = f"{self.source}; standard error {100 * error:.2g} %, of its logarithm"
        document["default_mode"] = self.mode
        document.pop(CALIBRATION, None)
        document.add(CALIBRATION, _toml(self.table()))
        return tomlkit.dumps(document)


def _toml(table: Mapping[str, Any]) -> Any:
    """Return a table with each matrix a row a line."""
    made = tomlkit.table()
    for name, value in table.items():
        if isinstance(value, Mapping):
            made.add(name, _toml(value))
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            several = tomlkit.aot()
            for part in value:
                several.append(_toml(part))
            made.add(name, several)
        elif isinstance(value, list) and value and isinstance(value[0], list):
            made.add(name, tomlkit.array(repr(value)).multiline(multiline=True))
        elif value or not isinstance(value, list):
            made.add(name, value)
    return made
