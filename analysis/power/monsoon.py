"""CSV of a Monsoon power monitor, as PowerTool or as PyMonsoon writes it.

PowerTool: `Time (s)` with `<channel> Avg Power (mW)`. PyMonsoon: `Time(ms),Main(mA),Main Voltage(V),` and perhaps
other channels, each line with a trailing comma. The head of PyMonsoon says ms, but what it writes is a difference
of `time.time()`, seconds; and all samples of a packet have the same (Monsoon/sampleEngine.py).
"""

from __future__ import annotations

import re

from analysis.power.table import Table, header, table
from analysis.power.trace import Sample, Trace, trace_from
from simulator.errors import TrainwattError

KIND = "monsoon"

_PYMONSOON_TIME = "Time(ms)"
_POWER = re.compile(r"(?:(\w+) )?(?:Avg )?Power ?\(mW\)")
_CURRENT = re.compile(r"(\w+)\(mA\)")
_TIME_S = re.compile(r"Time ?\(s\)")


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    columns = header(text)
    powertool = any(map(_TIME_S.fullmatch, columns)) and any(map(_POWER.fullmatch, columns))
    return powertool or columns[:1] == (_PYMONSOON_TIME,)


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number, and for currents without voltage."""
    held = table(KIND, text)
    channels, notes = _channels(held)
    time_column = held.columns[0]
    if not (time_column == _PYMONSOON_TIME or _TIME_S.fullmatch(time_column)):
        raise TrainwattError(f"first column {time_column!r} of the {KIND} log; it is 'Time (s)' or 'Time(ms)'")
    samples = []
    for row in held.rows:
        watts = dict.fromkeys(channels, 1e-3)  # mW, or mA times V
        for channel, columns in channels.items():
            for column in columns:
                watts[channel] *= held.number(row, column)
        samples.append(Sample(row[0], held.number(row, time_column), watts))
    total = ("Main",) if "Main" in channels else tuple(channels)
    return trace_from(
        KIND, samples, total, f"the {' and '.join(total)} output of the monitor", interval_s=interval_s, notes=notes
    )


def _channels(held: Table) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the columns whose product is the power of a channel, and what is left out."""
    if held.columns[0] != _PYMONSOON_TIME:
        return {(match[1] or "Main"): (column,) for column in held.columns if (match := _POWER.fullmatch(column))}, []
    found: dict[str, tuple[str, ...]] = {}
    notes = ["Time(ms) of PyMonsoon taken as seconds, which it is"]
    for column in held.columns:
        if match := _CURRENT.fullmatch(column):
            volts = f"{match[1]} Voltage(V)"
            if volts in held.columns:
                found[match[1]] = (column, volts)
            else:
                notes.append(f"{column} left out: there is no {volts}")
    if not found:
        raise TrainwattError(f"no voltage in the {KIND} log; record the voltage channel too, as power is their product")
    return found, notes
