"""`vcgencmd pmic_read_adc` of a Raspberry Pi 5: volts and amperes of the PMIC's rails.

Lines such as `VDD_CORE_A current(7)=6.22421000A`. Rails are paired by name, since their numbers differ; EXT5V and
BATT have no current. A log is several of these outputs, best each after a line with the time (`date +%s.%N`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.power.stamps import Dump, Key, dumps
from analysis.power.trace import Sample, Trace, number, refusal, trace_from

KIND = "raspberry"

_LINE = re.compile(r"\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=(\S+?)[AV]?\s*")
UNPAIRED = ("EXT5V", "BATT")
"""Inputs that have volts only."""


def _read(line: str) -> Iterator[tuple[Key, str]]:
    if match := _LINE.fullmatch(line):
        yield (match[1], match[2]), match[3]


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return bool(re.search(r"^\s*\w+_[AV] (current|volt)\(\d+\)=", text, re.MULTILINE))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for NaN and for a rail that lacks volts or amperes."""
    samples = [_sample(dump) for dump in dumps(text, _read)]
    rails = tuple(samples[0].watts) if samples else ()
    total_is = f"sum of {len(rails)} rails of the PMIC; the board's input is more (5 V and USB are not in it)"
    return trace_from(KIND, samples, rails, total_is, interval_s=interval_s)


def _sample(dump: Dump) -> Sample:
    values = {key: (line, number(KIND, line, text, "_".join(key))) for key, (line, text) in dump.values.items()}
    watts = {}
    for (name, unit), (line, value) in values.items():
        other = values.get((name, "V" if unit == "A" else "A"))
        if other is None and name not in UNPAIRED:
            raise refusal(KIND, line, f"{name} without its {'volts' if unit == 'A' else 'amperes'}", "torn perhaps")
        if unit == "A" and other is not None:
            watts[name] = value * other[1]
    return Sample(dump.line, dump.time_s, watts)
