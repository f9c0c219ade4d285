"""Sensors of Linux' hwmon, as `sensors` prints them or as `grep -r . /sys/class/hwmon/hwmon*/` does.

A rail's power is volts times amperes. INA226 (ZCU102) also say their power, but
lm-sensors was seen to print it 1000 times too small. INA3221 (Jetson, JetPack 5 on) name their channels, 1 to 3; their
`in7` sums the shunts. A log is several of these outputs, best each after a line with the time (`date +%s.%N`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from analysis.power.boards import board_total
from analysis.power.stamps import Dump, Key, dumps
from analysis.power.trace import Sample, Trace, number, power_of, refusal, scale_note, trace_from

KIND = "hwmon"

ZCU102_RAILS: Mapping[str, str] = {
    "u76": "VCCPSINTFP",
    "u77": "VCCPSINTLP",
    "u78": "VCCPSAUX",
    "u87": "VCCPSPLL",
    "u85": "MGTRAVCC",
    "u86": "MGTRAVTT",
    "u93": "VCCO_PSDDR_504",
    "u88": "VCCOPS",
    "u15": "VCCOPS3",
    "u92": "VCCPSDDRPLL",
    "u79": "VCCINT",
    "u81": "VCCBRAM",
    "u80": "VCCAUX",
    "u84": "VCC1V2",
    "u16": "VCC3V3",
    "u65": "VADJ_FMC",
    "u74": "MGTAVCC",
    "u75": "MGTAVTT",
}
"""Rails of the ZCU102 by the number of their INA226 on the board."""

_CHIP = re.compile(r"([\w]+)-(?:isa|i2c|virtual|pci|spi|acpi)-\S+")
_READING = re.compile(r"(in\d+|curr\d+|power\d+):\s+\+?(\S+)\s+([mu]?)[VAW]\b.*")
_FILE = re.compile(r"(\S*?hwmon\d+)/(name|(?:in|curr|power)\d+_(?:input|label)):(.*)")
_MILLI = {"": "", "m": "e-3", "u": "e-6"}
_SYSFS_UNIT = {"in": "e-3", "curr": "e-3", "power": "e-6"}  # mV, mA, uW


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return bool(re.search(r"^\S*hwmon\d+/\w+:", text, re.MULTILINE)) or (
        bool(re.search(r"^Adapter: ", text, re.MULTILINE)) and bool(re.search(r"^(curr|power)\d", text, re.MULTILINE))
    )


class _Reader:
    """Turns lines into readings by (chip, what), in V, A and W; `sensors` names the chip once for several lines."""

    def __init__(self) -> None:
        self.chip = ""

    def __call__(self, line: str) -> Iterator[tuple[Key, str]]:
        if match := _CHIP.fullmatch(line.strip()):
            self.chip = match[1]
            yield (self.chip, "name"), match[1]
        elif match := _READING.fullmatch(line.strip()):
            yield (self.chip, match[1]), match[2] + _MILLI[match[3]]
        elif match := _FILE.fullmatch(line.strip()):
            chip, what, value = match.groups()
            if what.endswith("_input"):
                what = what.removesuffix("_input")
                value = value.strip() + _SYSFS_UNIT[what.rstrip("0123456789")]
            yield (chip, what), value


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number and a sensor without volts."""
    rejected: list[int] = []
    samples = [Sample(dump.line, dump.time_s, _rails(dump, rejected)) for dump in dumps(text, _Reader())]
    total, total_is = board_total(samples[0].watts if samples else ())
    notes = scale_note(rejected, "power")
    return trace_from(KIND, samples, total, total_is, interval_s=interval_s, notes=notes)


def _rails(dump: Dump, rejected: list[int]) -> dict[str, float]:
    chips: dict[str, dict[str, tuple[int, str]]] = {}
    for (chip, what), said in dump.values.items():
        chips.setdefault(chip, {})[what] = said
    watts: dict[str, float] = {}
    for chip, held in chips.items():
        name = held.get("name", (0, chip))[1]
        found = _ina3221(held, name) if name.startswith("ina3221") else _single(held, name, rejected)
        for rail, value in found.items():
            if rail in watts:
                raise refusal(KIND, dump.line, f"rail {rail!r} twice in one output")
            watts[rail] = value
    return watts


def _ina3221(held: Mapping[str, tuple[int, str]], name: str) -> dict[str, float]:
    watts = {}
    for channel in "123":
        if f"curr{channel}" in held:
            rail = held.get(f"in{channel}_label", (0, f"{name} channel {channel}"))[1]
            if rail != "NC":
                watts[rail] = _value(held, f"in{channel}", f"curr{channel}") * _value(held, f"curr{channel}")
    return watts


def _single(held: Mapping[str, tuple[int, str]], name: str, rejected: list[int]) -> dict[str, float]:
    """Return the power of a sensor of one rail; nothing of one that measures neither current nor power."""
    unit = name.rpartition("_")[2]
    rail = ZCU102_RAILS.get(unit, name) if name.startswith("ina226") else name
    said = _value(held, "power1") if "power1" in held else None
    if "curr1" not in held:
        return {} if said is None else {rail: said}
    # The drivers of INA2xx count the shunt first: in0 and in1 in hwmon's own, in1 and in2 in that made from iio.
    bus = "in2" if name.startswith("ina2") and "in0" not in held else "in1"
    watts, wrong = power_of(_value(held, bus, "curr1"), _value(held, "curr1"), said)
    if wrong:
        rejected.append(held["power1"][0])
    return {rail: watts}


def _value(held: Mapping[str, tuple[int, str]], what: str, because: str = "") -> float:
    if what not in held:
        raise refusal(KIND, held[because][0], f"a current without {what}, the volts of its rail", "torn perhaps")
    line, text = held[what]
    return number(KIND, line, text, what)
