"""The files of the devices that the roofline prices: built-in ones, and copies kept for its tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hwmodels.device import FOLDER

DATA = Path(__file__).parent / "data"
FILES = [
    str(path)
    for path in sorted([*FOLDER.glob("*.toml"), *DATA.glob("*.toml")])
    if tomllib.loads(path.read_text(encoding="utf-8")).get("model", "roofline") == "roofline"
]
