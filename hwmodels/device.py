"""Devices: one TOML file each, read, checked and made into a pricing model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
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


def devices() -> list[str]:
    """Return the names of the built-in devices. No file is read."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def modes(name_or_path: str | Path) -> tuple[str, ...]:
    """Return the names of the device's power modes, in the order of its file."""
    _, data = _read(name_or_path)
    return tuple(data["modes"]) if isinstance(data.get("modes"), dict) else ()


def device(name_or_path: str | Path, mode: str | None = None) -> HardwareModel:
    """Return a built-in device, or the one a TOML file describes, in its default power mode or in `mode`.

    What ends in `.toml` or has a folder in it is a file. Raises `TrainwattError` for a name, mode or file
    that does not exist, and for a file with a field too many or too few, a wrong unit, an impossible number
    or no source.
    """
    path, data = _read(name_or_path)
    try:
        default = reading.text(data, "default_mode")
        names = tuple(reading.table(data, "modes"))
        if not names:
            raise TrainwattError("no power mode; give at least one table [modes.NAME]")
        if default not in names:
            raise TrainwattError(f"no power mode {default!r}; default_mode is one of {', '.join(names)}")
        model = data.get("model", "roofline")
        if model not in MODELS:
            raise unknown("model", str(model), MODELS)
        if mode is None or mode in names:
            return _builder(model)(path.stem, data, mode or default)
    except TrainwattError as error:
        raise TrainwattError(f"{path.name}: {error}") from None
    raise TrainwattError(f"no power mode {mode!r} of {path.stem}; there is {', '.join(sorted(names))}")


def _builder(model: str) -> Callable[[str, Mapping[str, Any], str], HardwareModel]:
    """Return what makes the pricing model of a device file: (name, data, mode) to model."""
    build: Callable[[str, Mapping[str, Any], str], HardwareModel] = importlib.import_module(MODELS[model]).build
    return build


def _read(name_or_path: str | Path) -> tuple[Path, dict[str, Any]]:
    import tomllib

    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text or os.sep in text:
        path = Path(name_or_path)
        if not path.is_file():
            raise TrainwattError(f"no file {text!r}; give a device's TOML file or one of its names")
    else:
        path = FOLDER / f"{text}.toml"
        if text not in devices():
            raise unknown("device", text, devices())
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise TrainwattError(f"{path.name} is no TOML ({reason}); mend or restore the file") from None
    except OSError as error:
        raise TrainwattError(f"{path.name} cannot be read ({error.strerror}); give a readable file") from None
