"""tegrastats of NVIDIA Jetson boards, JetPack 4 to 7: one line a sample.

Power is `NAME now/mean` in mW, with or without `mW`, from JetPack 7 on with a third field. The mean is that since
tegrastats was started, so `now` is what is integrated. AGX Xavier has rails of the same names as its temperatures
(`GPU 1155/1155`, `GPU@28C`); video engines may stand between rails; `NC` is a channel that is not connected.
"""

from __future__ import annotations

import re

from analysis.power.boards import board_total
from analysis.power.stamps import time_of
from analysis.power.trace import Sample, Trace, number, refusal, trace_from

KIND = "tegrastats"
INTERVAL_S = 1.0
"""Its default `--interval`."""

_FIELD = r"(?:[0-9.]+|-?nan)(?:mW)?"
_RAIL = re.compile(rf"(?<!\S)([A-Za-z]\w*) ({_FIELD})/{_FIELD}(?:/{_FIELD})?(?!\S)", re.IGNORECASE)
_MEMORY = re.compile(r"(?<!\S)RAM \d+/\d+[kMG]?B")
_STAMP = re.compile(r"(\d\d-\d\d-\d{4} \d\d:\d\d:\d\d) ")
NOT_CONNECTED = "NC"


def recognises(text: str) -> bool:
    """Tell whether `text` is such a log."""
    return bool(_MEMORY.search(text)) and any(_RAIL.search(line) or "_FREQ" in line for line in text.splitlines())


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read a log. Raises `TrainwattError`, with the line, for samples without power, with other rails, and so on."""
    samples: list[Sample] = []
    other: list[int] = []
    for line, content in enumerate(text.splitlines(), start=1):
        rails = {}
        for name, now in _RAIL.findall(content):
            if name != NOT_CONNECTED:
                if name in rails:
                    raise refusal(KIND, line, f"rail {name!r} twice")
                rails[name] = number(KIND, line, now.lower().removesuffix("mw"), name) / 1000
        if not rails:
            if _MEMORY.search(content) or "_FREQ " in content:
                raise refusal(KIND, line, "no power rails", "this board, or this torn line, tells no power")
            if content.strip() and not content.startswith("#") and time_of(content) is None:
                other.append(line)
            continue
        stamp = _STAMP.match(content)
        samples.append(Sample(line, time_of(stamp[1]) if stamp else None, rails))
    total, total_is = board_total(samples[0].watts if samples else ())
    notes = (
        [f"no samples, left out: line {', '.join(map(str, other[:5]))}{', ...' * (len(other) > 5)}"] if other else []
    )
    return trace_from(KIND, samples, total, total_is, interval_s=interval_s, default_interval_s=INTERVAL_S, notes=notes)
