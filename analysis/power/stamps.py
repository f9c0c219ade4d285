"""Times as logs write them, and dumps that are one sample each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_EPOCH = re.compile(r"(\d{9,10})(\.\d+|\d{3}|\d{6}|\d{9})?")
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d(?:[.,]\d+)?)(?:Z| ?[+-]\d\d:?\d\d)?")
_US = re.compile(r"(\d\d)-(\d\d)-(\d{4}) (\d\d):(\d\d):(\d\d)")
_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +(\d+) (\d\d):(\d\d):(\d\d)(?: ([AP]M))?(?: \S+)? (\d{4})")


Key = tuple[str, str]
"""What a value in a dump belongs to (a rail or chip), and which of its values it is."""


@dataclass
class Dump:
    """What was printed at one time: values by key, each with its line; `line` is the first."""

    line: int
    time_s: float | None
    values: dict[Key, tuple[int, str]] = field(default_factory=dict)


def time_of(text: str) -> float | None:
    """Return the time, in seconds of an epoch, that `text` is; None where it is none.

    Read are seconds since 1970 (or ms, us, ns), ISO 8601, `MM-DD-YYYY HH:MM:SS` and the output of `date`. Only
    differences of times are used, so time zones are left out.
    """
    text = text.strip()
    if match := _EPOCH.fullmatch(text):
        seconds, rest = match.groups()
        if rest and not rest.startswith("."):
            return int(seconds + rest) / 10.0 ** len(rest)
        return float(text)
    if match := _ISO.fullmatch(text):
        year, month, day, hour, minute = (int(group) for group in match.groups()[:5])
        return _seconds(year, month, day, hour, minute, float(match[6].replace(",", ".")))
    if match := _US.fullmatch(text):
        month, day, year, hour, minute, second = (int(group) for group in match.groups())
        return _seconds(year, month, day, hour, minute, second)
    match = _DATE.fullmatch(text)
    if match and match[1] in MONTHS:
        day, hour, minute, second = (int(match[i]) for i in range(2, 6))
        if match[6]:
            hour = hour % 12 + (12 if match[6] == "PM" else 0)
        return _seconds(int(match[7]), MONTHS.index(match[1]) + 1, day, hour, minute, second)
    return None


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: float) -> float | None:
    try:
        return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp() + second
    except ValueError:
        return None


def dumps(text: str, read: Callable[[str], Iterable[tuple[Key, str]]]) -> list[Dump]:
    """Split a log into dumps: one begins at a line that is a time, and where a key comes again.

    `read(line)` returns the keys and values of a line; lines without any belong to no dump.
    """
    found: list[Dump] = []
    current: Dump | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        time = time_of(line)
        if time is not None:
            current = Dump(number, time)
            found.append(current)
            continue
        for key, value in read(line):
            if current is None or key in current.values:
                current = Dump(number, None)
                found.append(current)
            current.values[key] = (number, value)
    return [dump for dump in found if dump.values]
