"""Any power log: its format is recognised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from analysis.power import (
    hwmon,
    ina219,
    joulescope,
    jtop,
    monsoon,
    perf,
    plain,
    powerstat,
    raspberry,
    tegrastats,
    xilinx,
)
from analysis.power.trace import Trace
from simulator.errors import TrainwattError, unknown

KINDS: Mapping[str, ModuleType] = {
    module.KIND: module
    for module in (tegrastats, jtop, perf, powerstat, joulescope, monsoon, raspberry, xilinx, hwmon, ina219, plain)
}
"""The formats. Each module has `recognises(text)` and `parse(text, interval_s)`; no two recognise the same text."""


def parse(log: str | Path, kind: str = "auto", interval_s: float | None = None) -> Trace:
    """Return the trace of a log: a path, or text, which has more than one line.

    `kind` is a key of `KINDS`; `auto` recognises it. `interval_s` is the time between samples for a log that does not
    say it. Raises `TrainwattError` for a file that cannot be read or is in no known format, and, with the line, for
    whatever the format refuses: numbers that are not finite, time that goes back, rails that come and go, torn lines.
    """
    if kind not in ("auto", *KINDS):
        raise unknown("kind of power log", kind, KINDS)
    if interval_s is not None and not 0 < interval_s < float("inf"):
        raise TrainwattError(f"interval {interval_s:g} s between samples; it is above 0")
    is_text = isinstance(log, str) and "\n" in log
    text, name = (str(log), "the log") if is_text else (_content(Path(log)), repr(str(log)))
    if not text.strip():
        raise TrainwattError(f"{name} is empty; give a power log")
    if kind == "auto":
        found = [known for known, module in KINDS.items() if module.recognises(text)]
        if not found:
            raise TrainwattError(f"{name} is no power log that is known; there is {', '.join(KINDS)}")
        kind = found[0]
    elif not KINDS[kind].recognises(text):
        raise TrainwattError(f"{name} is no {kind} log; leave its kind out to have it recognised")
    try:
        trace: Trace = KINDS[kind].parse(text, interval_s)
    except TrainwattError as error:
        raise error if is_text else TrainwattError(f"{name}: {error}") from None
    if not text.endswith("\n"):
        trace = replace(trace, notes=(*trace.notes, "no line break ends the last line: it may be torn"))
    return trace


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrainwattError(f"cannot read {str(path)!r} ({error.strerror}); give a power log") from None
    except UnicodeDecodeError:
        raise TrainwattError(f"{str(path)!r} is no text in UTF-8; give a power log as text") from None
