# ruff: noqa: UP006, UP035, UP045
"""The power meters of boards, sampled while something runs.

A meter reads watts by rail. INA3221 of Jetson boards: by the old driver `ina3221x` (JetPack 4) in mW, by hwmon
(JetPack 5 on) as volts times amperes; else tegrastats; the PMIC of a Raspberry Pi 5 by `vcgencmd pmic_read_adc`; RAPL
of x86 as differences of counted microjoules, which wrap around; any `powerN_input` of hwmon in uW.
"""

import glob
import os
import re
import shutil
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from workloads.measuring.board.telemetry import number_in, output_of, text_of

FEWEST_SAMPLES = 10
"""What is measured goes on for so many samples, or its energy is not told."""

Watts = Dict[str, float]
Read = Callable[[], Optional[Watts]]


class Meter:
    """A meter: `read()` returns watts by rail (None: not yet), `period_s` apart; one that `waits` returns when due."""

    def __init__(
        self, name: str, period_s: float, read: Read, close: Callable[[], None] = lambda: None, waits: bool = False
    ) -> None:
        self.name, self.period_s, self.read, self.close, self.waits = name, period_s, read, close, waits

    @property
    def window_s(self) -> float:
        """How long something must run for its energy to be told."""
        return (FEWEST_SAMPLES + 1) * self.period_s


def _ina3221x(root: str) -> Optional[Meter]:
    rails = {}
    for path in sorted(glob.glob(os.path.join(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*/in_power*_input"))):
        channel = re.search(r"in_power(\d+)_input", path)
        name = text_of(os.path.join(os.path.dirname(path), "rail_name_" + (channel.group(1) if channel else "")))
        if name and name != "NC":
            rails[name] = path
    return Meter("ina3221x", 0.1, lambda: _read_all(rails, 1e-3)) if rails else None


def _read_all(rails: Dict[str, str], scale: float) -> Optional[Watts]:
    found = {name: number_in(path) for name, path in rails.items()}
    watts = {name: scale * value for name, value in found.items() if value is not None}
    return watts if len(watts) == len(rails) else None


def _ina3221(root: str) -> Optional[Meter]:
    rails = {}
    for path in sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*/curr[123]_input"))):
        folder, channel = os.path.dirname(path), re.sub(r"\D", "", os.path.basename(path))
        name = text_of(os.path.join(folder, "in" + channel + "_label"))
        if text_of(os.path.join(folder, "name")).startswith("ina3221") and name and name != "NC":
            rails[name] = (path, os.path.join(folder, "in" + channel + "_input"))

    def read() -> Optional[Watts]:
        amperes = _read_all({name: paths[0] for name, paths in rails.items()}, 1e-3)
        volts = _read_all({name: paths[1] for name, paths in rails.items()}, 1e-3)
        return {name: amperes[name] * volts[name] for name in rails} if amperes and volts else None

    return Meter("ina3221", 0.1, read) if rails else None


def _hwmon(root: str) -> Optional[Meter]:
    rails = {}
    for path in sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*/power*_input"))):
        folder, what = os.path.dirname(path), os.path.basename(path)[: -len("_input")]
        name = text_of(os.path.join(folder, what + "_label")) or text_of(os.path.join(folder, "name"))
        rails[name if name and name not in rails else os.path.basename(folder) + " " + what] = path
    return Meter("hwmon", 0.1, lambda: _read_all(rails, 1e-6)) if rails else None


def _rapl(root: str) -> Optional[Meter]:
    counters = {}
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/powercap/intel-rapl:[0-9]*"))):
        # Packages, and their memory; the cores are in the package. `psys`, the platform, holds all of them.
        name = text_of(os.path.join(folder, "name"))
        if number_in(os.path.join(folder, "energy_uj")) is not None and name not in ("core", "uncore"):
            counters[os.path.basename(folder)[len("intel-rapl:") :] + " " + name] = folder
    whole = {name: folder for name, folder in counters.items() if name.endswith("psys")}
    counters = whole or counters
    before: List[Any] = []

    def read() -> Optional[Watts]:
        now = time.perf_counter()
        joules = _read_all({name: os.path.join(folder, "energy_uj") for name, folder in counters.items()}, 1e-6)
        if joules is None:
            return None
        last = before[:]
        before[:] = [now, joules]
        return (
            {name: _rise(joules[name], last[1][name], counters[name]) / (now - last[0]) for name in joules}
            if last
            else None
        )

    return Meter("rapl", 0.1, read) if counters else None


def _rise(after: float, before: float, folder: str) -> float:
    if after >= before:
        return after - before
    return after - before + 1e-6 * (number_in(os.path.join(folder, "max_energy_range_uj")) or 0.0)


def _pmic(root: str) -> Optional[Meter]:
    def read() -> Optional[Watts]:
        found = {}  # type: Dict[Tuple[str, str], float]
        for name, unit, value in re.findall(
            r"(\w+)_([AV]) (?:current|volt)\(\d+\)=([0-9.]+)", output_of(["vcgencmd", "pmic_read_adc"])
        ):
            found[name, unit] = float(value)
        return {
            name: found[name, "A"] * found[name, "V"] for name, unit in found if unit == "A" and (name, "V") in found
        }

    return Meter("pmic", 0.2, read) if read() else None


def _tegrastats(root: str) -> Optional[Meter]:
    if shutil.which("tegrastats") is None:
        return None
    process = subprocess.Popen(["tegrastats", "--interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def read() -> Optional[Watts]:
        line = process.stdout.readline().decode("utf-8", "replace") if process.stdout else ""
        found = re.findall(r"(?<!\S)([A-Za-z]\w*) (\d+)(?:mW)?/\d+(?:mW)?(?!\S)", line)
        return {name: int(milliwatts) / 1000 for name, milliwatts in found if name != "NC"} or None

    return Meter("tegrastats", 0.1, read, process.kill, waits=True)


METERS = {
    "ina3221x": _ina3221x,
    "ina3221": _ina3221,
    "tegrastats": _tegrastats,
    "pmic": _pmic,
    "rapl": _rapl,
    "hwmon": _hwmon,
}
"""By name, those that measure a board whole first: `auto` takes the first that is there."""


def open_meter(name: str, root: str = "/") -> Optional[Meter]:
    """Return the meter `name`; None for `none`. Raises `ValueError` for one that is not known or not there."""
    if name == "none":
        return None
    if name != "auto" and name not in METERS:
        raise ValueError(f"no power meter {name!r}; there is auto, none, {', '.join(METERS)}")
    for known, find in METERS.items():
        meter = find(root) if name in ("auto", known) else None
        if meter is not None:
            return meter
    raise ValueError(f"no power meter {'' if name == 'auto' else repr(name) + ' '}here; use none")


class PowerLog:
    """Samples a meter in a thread: `with PowerLog(meter) as log: ...`; `log.samples` are (Unix time, watts by rail)."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.samples: List[Tuple[float, Watts]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PowerLog":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self.meter.close()
        self._thread.join(10 * self.meter.period_s)

    def wait_past(self, time_s: float) -> None:
        """Wait until there is a sample after `time_s`, or so long that none will come."""
        give_up_s = time.time() + 20 * self.meter.period_s
        while time.time() < give_up_s and not (self.samples and self.samples[-1][0] > time_s):
            time.sleep(self.meter.period_s / 4)

    def _sample(self) -> None:
        while not self._done.is_set():
            began_s = time.time()
            watts = self.meter.read()
            at_s = time.time() if self.meter.waits else (began_s + time.time()) / 2
            # Left out are samples in which rails are missing, as a sum would jump, and those after a clock set back.
            if watts and (
                not self.samples or (watts.keys() == self.samples[0][1].keys() and at_s > self.samples[-1][0])
            ):
                self.samples.append((at_s, watts))
            if watts is None or not self.meter.waits:
                self._done.wait(max(0.0, self.meter.period_s - (time.time() - began_s)))
