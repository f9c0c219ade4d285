# ruff: noqa: UP006, UP024, UP035, UP045
"""Clocks, temperatures and throttling of a Linux board, around and during a measurement.

Everything is read below a root, so that a folder may stand for a board. What a board does not tell is None.
"""

import glob
import os
import re
import shutil
import subprocess
import threading
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence

PERIOD_S = 0.2
FALLEN = 0.9
"""A clock below this share of its limit has fallen."""
NOW_BITS = 0xF
"""Of `vcgencmd get_throttled`: under-voltage, capped, throttled, soft limit of heat, now; 16 bits up: since boot."""
_GPU = re.compile(r"gpu|gm20b|gp10b|gv11b|ga10b|mali|panfrost|v3d", re.IGNORECASE)
_COUNTERS = (
    "sys/class/hwmon/hwmon*/oc*_event_cnt",  # Jetson: over-current events
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
)


class Reading(NamedTuple):
    """A metric and its value in the metric's base unit, and the stretch of Unix time it is of."""

    metric: str
    value: float
    start_s: float
    end_s: float


def text_of(path: str) -> str:
    """Return the text of a small file, without what is around it; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace").strip().strip("\0").strip()
    except (OSError, IOError):
        return ""


def output_of(command: Sequence[str], timeout_s: float = 10.0) -> str:
    """Return what a command prints; empty where it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def number_in(path: str) -> Optional[float]:
    """Return the number in a file, or None."""
    try:
        return float(text_of(path))
    except ValueError:
        return None


def _largest(paths: Iterable[str], scale: float) -> Optional[float]:
    found = [value for value in map(number_in, paths) if value is not None]
    return scale * max(found) if found else None


class Telemetry:
    """What the board below `root` tells of its state."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def _all(self, pattern: str) -> List[str]:
        return sorted(glob.glob(os.path.join(self.root, pattern)))

    def _gpu(self, name: str) -> Optional[float]:
        folders = [path for path in self._all("sys/class/devfreq/*") if _GPU.search(os.path.basename(path))]
        return _largest([os.path.join(folder, name) for folder in folders], 1.0)

    def clocks_hz(self) -> Dict[str, Optional[float]]:
        """Return the clocks of the fastest core (`cpu`) and of the graphics processor (`gpu`) now."""
        cores = self._all("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        return {"cpu": _largest(cores, 1e3), "gpu": self._gpu("cur_freq")}

    def limits_hz(self) -> Dict[str, Optional[float]]:
        """Return the highest clocks that are allowed."""
        cores = self._all("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_max_freq")
        return {"cpu": _largest(cores, 1e3), "gpu": self._gpu("max_freq")}

    def power_mode(self) -> str:
        """Return the mode that `nvpmodel -q` tells, else the governor of the processor; empty where neither is told."""
        mode = re.search(r"Power Mode: *(\S+)", output_of(["nvpmodel", "-q"]))
        if mode:
            return mode.group(1)
        governor = text_of(os.path.join(self.root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
        return "governor " + governor if governor else ""

    def temperature_c(self) -> Optional[float]:
        """Return that of the hottest zone; a Jetson's PMIC is left out, as it always tells 100 degrees."""
        zones = [
            zone
            for zone in self._all("sys/class/thermal/thermal_zone*")
            if "pmic" not in text_of(os.path.join(zone, "type")).lower()
        ]
        return _largest([os.path.join(zone, "temp") for zone in zones], 1e-3)

    def events(self) -> Dict[str, int]:
        """Return the counters of throttling by file, and what a Raspberry Pi's firmware tells as `firmware`."""
        found = {}
        for pattern in _COUNTERS:
            for path in self._all(pattern):
                value = number_in(path)
                if value is not None:
                    found[path] = int(value)
        told = re.search(r"throttled=(0x[0-9a-fA-F]+)", output_of(["vcgencmd", "get_throttled"]))
        if told:
            found["firmware"] = int(told.group(1), 16)
        return found


def throttled(
    before: Dict[str, int], after: Dict[str, int], clocks: Dict[str, List[float]], limits: Dict[str, Optional[float]]
) -> Optional[int]:
    """Return 1 where a clock fell, a counter rose or the firmware says so, 0 where not, None where nothing tells."""
    told = [values for values in clocks.values() if values]
    if not (told or after):
        return None
    for name, values in clocks.items():
        limit = limits.get(name)
        if values and limit and min(values) < FALLEN * limit:
            return 1
    for name, count in after.items():
        if name == "firmware":
            if (before.get(name, 0) | count) & NOW_BITS or count & ~before.get(name, 0):
                return 1
        elif count > before.get(name, count):
            return 1
    return 0


class Watch:
    """Observes while something runs: `with Watch(telemetry) as watch: ...`, then `watch.readings`."""

    def __init__(self, telemetry: Telemetry, period_s: float = PERIOD_S) -> None:
        self.telemetry = telemetry
        self.readings: List[Reading] = []
        self._period_s = period_s
        self._clocks: Dict[str, List[float]] = {"cpu": [], "gpu": []}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Watch":
        self._hot_before = self.telemetry.temperature_c()
        self._events_before = self.telemetry.events()
        self._start_s, self._begun = time.time(), time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._note()  # still busy, or just so: the governor is slower than this
        end_s = self._start_s + time.monotonic() - self._begun
        self._done.set()
        self._thread.join()
        for value, at_s in ((self._hot_before, self._start_s), (self.telemetry.temperature_c(), end_s)):
            if value is not None:
                self.readings.append(Reading("temperature", value, at_s, at_s))
        for name, values in self._clocks.items():
            if values:
                self.readings.append(Reading(name + "_clock", min(values), self._start_s, end_s))
        found = throttled(self._events_before, self.telemetry.events(), self._clocks, self.telemetry.limits_hz())
        if found is not None:
            self.readings.append(Reading("throttled", float(found), self._start_s, end_s))

    def _sample(self) -> None:
        while not self._done.wait(self._period_s):
            self._note()

    def _note(self) -> None:
        for name, value in self.telemetry.clocks_hz().items():
            if value is not None:
                self._clocks[name].append(value)
