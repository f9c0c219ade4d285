"""`xmutil xlnx_platformstats` of a Kria board: the power of its module.

`SOM total power : 3100 mW`; the averaging mode prints a mean after it, which is not used. A log is several of
these outputs, best each after a line with the time (`date +%s.%N`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.power.stamps import Dump, Key, dumps
from analysis.power.trace import Sample, Trace, number, power_of, refusal, scale_note, trace_from

KIND = "xilinx"

_LINE = re.compile(r"\s*SOM total (power|current|voltage)\s*:\s*(\S+)\s*m[WAV].*")


def _read(line: str) -> Iterator[tuple[Key, str]]:
    if match := _LINE.fullmatch(line):
        yield ("SOM", match[1]), match[2]


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return bool(re.search(r"^\s*SOM total power\s*:", text, re.MULTILINE))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number and a dump without power."""
    samples, rejected = [], []
    for dump in dumps(text, _read):
        watts, wrong = _watts(dump)
        rejected += [dump.line] * wrong
        samples.append(Sample(dump.line, dump.time_s, {"SOM": watts}))
    total_is = "SOM, the module without its carrier"
    notes = scale_note(rejected, "SOM total power")
    return trace_from(KIND, samples, ("SOM",), total_is, interval_s=interval_s, notes=notes)


def _watts(dump: Dump) -> tuple[float, bool]:
    held = {
        what: number(KIND, line, text, f"SOM total {what}") / 1000 for (_, what), (line, text) in dump.values.items()
    }
    if "power" not in held:
        raise refusal(KIND, dump.line, "no SOM total power", "torn perhaps")
    if not {"current", "voltage"} <= held.keys():
        return held["power"], False
    return power_of(held["voltage"], held["current"], held["power"])
