# ruff: noqa: UP006, UP035
"""The file of measurements as a board writes it: line by line, so that a power cut costs one line."""

import csv
import io
import os
from typing import Any, Dict, List, Mapping, Set, Tuple

FIRST_LINE = "# trainwatt measurements 2"
NAMES = (
    *("kind", "what", "parameters", "batch", "phase", "device", "power_mode", "clocks", "software", "metric", "value"),
    *("unit", "spread", "repeats", "source", "start_s", "end_s"),
)
SETUP = ("kind", "what", "parameters", "batch", "phase", "device", "power_mode", "clocks", "software")
"""The columns that tell one measurement from another."""
UNITS = {
    **dict.fromkeys(("latency",), "s"),
    **dict.fromkeys(("peak_memory", "reserved_memory", "resident_memory"), "byte"),
    **dict.fromkeys(("out_of_memory", "slowed", "throttled"), "1"),
    **dict.fromkeys(("cpu_clock", "gpu_clock"), "Hz"),
    "temperature": "degC",
    "idle_power": "W",
}


def pairs(values: Mapping[str, Any]) -> str:
    """Return `key=value;key=value`."""
    return ";".join(f"{key}={value}" for key, value in values.items())


class Records:
    """Rows of the file at `path`, which is made where there is none. Raises `ValueError` for a file of another kind."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.known: Set[Tuple[str, ...]] = set()
        head = f"{FIRST_LINE}\n{','.join(NAMES)}\n"
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(head)
            return
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        if not text.startswith(head):
            raise ValueError(f"{path!r} is no file of measurements of this version; give the name of a new file")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:  # a line that was cut off is measured again
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(whole)
        for row in csv.reader(whole.splitlines()[2:]):
            self.known.add(self.setup(dict(zip(NAMES, row))))  # noqa: B905

    @staticmethod
    def setup(row: Mapping[str, Any]) -> Tuple[str, ...]:
        """Return what tells the row's measurement from others."""
        return tuple(_cell(row.get(name)) for name in SETUP)

    def add(self, rows: List[Dict[str, Any]]) -> None:
        """Add rows; they are on the disk when this returns."""
        held = io.StringIO()
        writer = csv.writer(held, lineterminator="\n")
        for given in rows:
            row = dict({"repeats": 1, "unit": UNITS[given["metric"]]}, **given)
            writer.writerow([_cell(row.get(name)) for name in NAMES])
            self.known.add(self.setup(row))
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(held.getvalue())
            file.flush()
            os.fsync(file.fileno())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
