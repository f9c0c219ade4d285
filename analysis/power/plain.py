"""Power by rail as CSV: what a meter on the board read, as the benchmark script for boards writes it.

The first line is `# trainwatt power 1`, the second `time_s` (Unix time) and the names of the rails, then W.
"""

from __future__ import annotations

import csv

from analysis.power.boards import board_total
from analysis.power.trace import Sample, Trace, number, refusal, trace_from

KIND = "trainwatt"
HEAD = "# trainwatt power 1"


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return text.startswith(HEAD)


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for what is no number and rows of another length."""
    names, *rows = [*csv.reader(text.splitlines()[1:])] or [[]]
    if len(names) < 2 or names[0] != "time_s" or len(set(names)) < len(names):
        raise refusal(KIND, 2, f"columns {', '.join(names)}", "they are time_s and one for each rail")
    samples = []
    for line, cells in enumerate(rows, start=3):
        if len(cells) != len(names):
            raise refusal(KIND, line, f"{len(cells)} columns; there are {len(names)}", "torn perhaps")
        time_s, *watts = (number(KIND, line, cell, name) for name, cell in zip(names, cells, strict=True))
        samples.append(Sample(line, time_s, dict(zip(names[1:], watts, strict=True))))
    total, total_is = board_total(names[1:])
    return trace_from(KIND, samples, total, total_is, interval_s=interval_s)
