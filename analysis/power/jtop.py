"""CSV of jtop (jetson-stats 4): a row of `jetson.stats` a sample, power in mW.

Power columns are `Power <rail>` and `Power TOT`, or in the spelling of other loggers `power_<rail>` and `power_tot`.
"""

from __future__ import annotations

import re

from analysis.power.boards import board_total
from analysis.power.stamps import time_of
from analysis.power.table import header, table
from analysis.power.trace import Sample, Trace, refusal, trace_from

KIND = "jtop"
_POWER = re.compile(r"power[ _](.+)", re.IGNORECASE)


def _rails(columns: tuple[str, ...]) -> dict[str, str]:
    return {match[1]: column for column in columns if (match := _POWER.fullmatch(column))}


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    columns = header(text)
    return "time" in map(str.lower, columns) and bool(_rails(columns))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no time and no number."""
    held = table(KIND, text)
    rails = _rails(held.columns)
    place = [column.lower() for column in held.columns].index("time")
    samples = []
    for row in held.rows:
        line, cells = row
        time = time_of(cells[place])
        if time is None:
            raise refusal(KIND, line, f"time {cells[place]!r}", "write 2026-01-31 12:00:00.5")
        samples.append(Sample(line, time, {rail: held.number(row, column) / 1000 for rail, column in rails.items()}))
    whole = next((rail for rail in rails if rail.lower() in ("tot", "total")), None)
    total, total_is = ((whole,), "jtop's own total") if whole else board_total(rails)
    return trace_from(KIND, samples, total, total_is, interval_s=interval_s)
