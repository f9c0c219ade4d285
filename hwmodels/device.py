"""Devices: one TOML file each, read, checked and made into a pricing model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwmodels import reading
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError, unknown

FOLDER = Path(__file__).parent / "devices"

MODELS = {
    "roofline": "hwmodels.roofline_file",
    "cpu": "hwmodels.cpu.file",
    "fpga": "hwmodels.fpga",
    "gpu": "hwmodels.gpu.file",
}
"""Pricing models by the name that `model` of a device file gives, and the module that makes one of a file."""


CALIBRATION = "calibration"
"""The table of a device file that `trainwatt calibrate` adds."""


def devices() -> list[str]:
    """Return the names of the built-in devices. No file is read."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def modes(name_or_path: str | Path) -> tuple[str, ...]:
    """Return the names of the device's power modes, in the order of its file."""
    _, data, _ = _read(name_or_path)
    return tuple(data["modes"]) if isinstance(data.get("modes"), dict) else ()


def device(name_or_path: str | Path, mode: str | None = None) -> HardwareModel:
    """Return a built-in device, or the one a TOML file describes, in its default power mode or in `mode`.

    What ends in `.toml` or has a folder in it is a file. Raises `TrainwattError` for a name, mode or file
    that does not exist, and for a file with a field too many or too few, a wrong unit, an impossible number
    or no source.
    """
    name, data, chosen = read_file(name_or_path, mode)
    try:
        return build(name, data, chosen)
    except TrainwattError as error:
        raise TrainwattError(f"{name}.toml: {error}") from None


def read_file(name_or_path: str | Path, mode: str | None = None) -> tuple[str, dict[str, Any], str]:
    """Return a device's name, the contents of its file and the chosen power mode, the default one if not given.

    Raises `TrainwattError` for a device or mode that does not exist and a file that cannot be read.
    """
    path, data, _ = _read(name_or_path)
    try:
        default = reading.text(data, "default_mode")
        names = tuple(reading.table(data, "modes"))
        if not names:
            raise TrainwattError("no power mode; give at least one table [modes.NAME]")
        if default not in names:
            raise TrainwattError(f"no power mode {default!r}; default_mode is one of {', '.join(names)}")
    except TrainwattError as error:
        raise TrainwattError(f"{path.name}: {error}") from None
    if mode is None or mode in names:
        return path.stem, data, mode or default
    raise TrainwattError(f"no power mode {mode!r} of {path.stem}; there is {', '.join(sorted(names))}")


def build(name: str, data: Mapping[str, Any], mode: str) -> HardwareModel:
    """Return the device `name` that the contents of a file describe, in one of its power modes.

    What was fitted beside its numbers (table `calibration`) corrects its prices. Raises `TrainwattError` as `device`.
    """
    model = data.get("model", "roofline")
    if model not in MODELS:
        raise unknown("model", str(model), MODELS)
    module = importlib.import_module(MODELS[model])
    analytic: HardwareModel = module.build(name, {k: v for k, v in data.items() if k != CALIBRATION}, mode)
    if CALIBRATION not in data:
        return analytic
    from hwmodels.corrected.table import corrected_device

    return corrected_device(analytic, reading.table(data, CALIBRATION))


def text_of(name_or_path: str | Path) -> str:
    """Return the file of a device as it is written. Raises `TrainwattError` where there is none."""
    return _read(name_or_path)[2]


def _read(name_or_path: str | Path) -> tuple[Path, dict[str, Any], str]:
    """Return a device's file, its contents and its text."""
    import tomllib

    given = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or given.endswith(".toml") or "/" in given or os.sep in given:
        path = Path(name_or_path)
        if not path.is_file():
            raise TrainwattError(f"no file {given!r}; give a device's TOML file or one of its names")
    else:
        path = FOLDER / f"{given}.toml"
        if given not in devices():
            raise unknown("device", given, devices())
    try:
        text = path.read_text(encoding="utf-8")
        return path, tomllib.loads(text), text
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise TrainwattError(f"{path.name} is no TOML ({reason}); mend or restore the file") from None
    except OSError as error:
        raise TrainwattError(f"{path.name} cannot be read ({error.strerror}); give a readable file") from None
