"""`perf stat -e power/...`: the energy of a whole run by RAPL domain, so a trace of two equal powers.

Numbers may have decimal commas and thousands separators, by the locale; lines of sockets or cores (`S0`, `S0-D0-C0`)
of one domain are added.
"""

from __future__ import annotations

import re
from math import isnan

from analysis.power.trace import Trace, refusal
from simulator.errors import TrainwattError

KIND = "perf"

_NUMBER = r"[0-9][0-9.,'  \u202f]*"
_ENERGY = re.compile(rf"(?:^|\s)({_NUMBER}|nan|<not \w+>)\s+Joules\s+(?:power\w*/)?energy-(\w+)/?")
_TIME = re.compile(rf"^\s*({_NUMBER})\s*(?:\+-.*?)?\s*seconds time elapsed")
_CORE = re.compile(r"^\s*(S\d+\S*)\s+\d+\s+")
_RUNS = re.compile(r"\((\d+) runs\)")


def recognises(text: str) -> bool:
    """Tell whether `text` is such an output."""
    return bool(re.search(r"Joules\s+(power\w*/)?energy-", text))


def parse(text: str, interval_s: float | None = None) -> Trace:
    """Read an output. Raises `TrainwattError`, with the line, for a number that can be read in two ways or is none."""
    joules: dict[str, float] = {}
    seconds: float | None = None
    notes = ["perf tells the energy of the whole run: power taken as constant over it"]
    for line, content in enumerate(text.splitlines(), start=1):
        place = _CORE.match(content)
        if match := _TIME.match(content):
            if seconds is not None:
                raise refusal(KIND, line, "the elapsed time again", "give the output of one perf stat")
            seconds = _number(line, match[1])
        elif match := _ENERGY.search(content[place.end() - 1 :] if place else content):
            value, domain = match[1].strip(), match[2]
            if value.startswith("<"):
                notes.append(f"line {line}: energy-{domain} is {value[1:-1]}, left out")
                continue
            if domain in joules and not place:
                raise refusal(KIND, line, f"energy-{domain} again", "give the output of one perf stat")
            joules[domain] = joules.get(domain, 0.0) + _number(line, value)
        if match := _RUNS.search(content):
            notes.append(f"mean of {match[1]} runs")
    if seconds is None or seconds <= 0:
        raise TrainwattError(
            "no 'seconds time elapsed' in the perf output; keep its last line, power is energy by time"
        )
    total, total_is = _total(joules)
    watts = {name: (value / seconds, value / seconds) for name, value in joules.items()}
    return Trace(KIND, (0.0, seconds), watts, total, total_is, tuple(notes))


def _total(domains: dict[str, float]) -> tuple[tuple[str, ...], str]:
    """Return the domains that do not contain each other: psys holds all; pkg holds cores and gpu, but no ram."""
    if "psys" in domains:
        return ("psys",), "psys, the whole platform"
    if "pkg" in domains:
        total = tuple(name for name in ("pkg", "ram") if name in domains)
        return total, f"{' + '.join(total)}, without the rest of the machine"
    return tuple(domains), f"sum of {', '.join(domains)}, without the rest of the machine"


def _number(line: int, text: str) -> float:
    """Return a number in any locale's writing. Raises `TrainwattError` where `1,234` may be either."""
    digits = re.sub(r"[\s'\u00a0\u202f]", "", text)
    marks = [c for c in digits if c in ".,"]
    if len(set(marks)) == 2:  # the last one is the decimal mark
        thousands = "," if digits.rfind(".") > digits.rfind(",") else "."
        digits = digits.replace(thousands, "").replace(",", ".")
    elif marks == [","]:
        if len(digits.partition(",")[2]) == 3:
            raise refusal(KIND, line, f"{text.strip()!r} has a comma that may divide thousands", "set LC_ALL=C")
        digits = digits.replace(",", ".")
    elif len(marks) > 1:
        digits = digits.replace(marks[0], "")
    try:
        value = float(digits)
    except ValueError:
        raise refusal(KIND, line, f"{text.strip()!r} joules or seconds", "it is a number") from None
    if isnan(value):
        raise refusal(KIND, line, f"{text.strip()!r} joules", "it is a number")
    return value
