"""CSV of a Joulescope: `time,current,voltage,power,...` in s, A, V, W, one channel."""

from __future__ import annotations

from analysis.power.table import header, table
from analysis.power.trace import Sample, Trace, power_of, scale_note, trace_from

KIND = "joulescope"


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return header(text)[:4] == ("time", "current", "voltage", "power")


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number."""
    held = table(KIND, text)
    samples, rejected = [], []
    for row in held.rows:
        time, current, voltage, power = (held.number(row, name) for name in ("time", "current", "voltage", "power"))
        watts, wrong = power_of(voltage, current, power)
        rejected += [row[0]] * wrong
        samples.append(Sample(row[0], time, {"power": watts}))
    notes = scale_note(rejected, "power")
    total_is = "what flows through the meter"
    return trace_from(KIND, samples, ("power",), total_is, interval_s=interval_s, notes=notes)
