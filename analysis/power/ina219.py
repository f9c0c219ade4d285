"""Readings of an INA219 as text: `Bus Voltage: 5.012 V`, `Bus Current: 234.5 mA`, `Power: 1175.3 mW`.

A log is several of these, best each after a line with the time (`date +%s.%N`); the voltage across the shunt, if it
is printed, is no part of the power.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.power.stamps import Dump, Key, dumps
from analysis.power.trace import Sample, Trace, number, power_of, refusal, scale_note, trace_from

KIND = "ina219"

_LINE = re.compile(r"\s*(?:Bus )?(Voltage|Current|Power)\s*:\s*(\S+)\s*(m?)[VAW]\s*", re.IGNORECASE)


def _read(line: str) -> Iterator[tuple[Key, str]]:
    if match := _LINE.fullmatch(line):
        yield ("bus", match[1].lower()), match[2] + ("e-3" if match[3] else "")


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return bool(re.search(r"^\s*Bus (Voltage|Current)\s*:", text, re.MULTILINE | re.IGNORECASE))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number and a reading without power."""
    samples, rejected = [], []
    for dump in dumps(text, _read):
        watts, wrong = _watts(dump)
        rejected += [dump.line] * wrong
        samples.append(Sample(dump.line, dump.time_s, {"bus": watts}))
    notes = scale_note(rejected, "Power")
    return trace_from(KIND, samples, ("bus",), "what flows through the shunt", interval_s=interval_s, notes=notes)


def _watts(dump: Dump) -> tuple[float, bool]:
    held = {what: number(KIND, line, text, what) for (_, what), (line, text) in dump.values.items()}
    if {"voltage", "current"} <= held.keys():
        return power_of(held["voltage"], held["current"], held.get("power"))
    if "power" not in held:
        raise refusal(KIND, dump.line, f"only {' and '.join(held)}", "a reading has power, or voltage and current")
    return held["power"], False
