"""`powerstat -R`: a row a sample with the time of day and watts, perhaps with the RAPL domains (`-D`) after them."""

from __future__ import annotations

import re

from analysis.power.trace import Sample, Trace, number, refusal, trace_from
from simulator.errors import TrainwattError

KIND = "powerstat"
DAY_S = 86_400.0

_TIME = re.compile(r"\s*(\d\d):(\d\d):(\d\d(?:\.\d+)?)\s")


def _is_head(line: str) -> bool:
    return line.split()[:2] == ["Time", "User"] and "Watts" in line.split()


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return any(map(_is_head, text.splitlines()))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log; its averages at the end are left out. Raises `TrainwattError`, with the line, for torn rows."""
    columns: list[str] = []
    samples: list[Sample] = []
    days, last = 0, -1.0
    for line, content in enumerate(text.splitlines(), start=1):
        cells = content.split()
        if _is_head(content):
            columns = cells
        elif match := _TIME.match(content):
            if len(cells) != len(columns):
                raise refusal(KIND, line, f"{len(cells)} columns instead of {len(columns)}, torn perhaps")
            time = 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
            days += time < last - DAY_S / 2  # past midnight
            last = time
            first = columns.index("Watts")
            watts = {name: number(KIND, line, cells[first + i], name) for i, name in enumerate(columns[first:])}
            samples.append(Sample(line, days * DAY_S + time, watts))
    if not samples:
        raise TrainwattError(f"no sample in the {KIND} log; let it run for some seconds")
    return trace_from(KIND, samples, ("Watts",), "powerstat's Watts", interval_s=interval_s)
