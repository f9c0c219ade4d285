"""One measured value with all that one must know about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.measurements.metrics import KINDS, METRICS
from simulator.errors import TrainwattError, unknown

PHASES = ("", "forward", "loss", "backward", "optimizer", "other")
"""Phases of a training step; empty: all of it."""

_SETTINGS = ("parameters", "clocks", "software")
_TEXTS = ("what", *_SETTINGS, "phase", "device", "power_mode", "source")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A value of `metric` in `unit`, the one that `METRICS` names.

    What was run: `what` is an op kind of our graphs or a network, `parameters` are `key=value;key=value`, `batch` is
    None where there is none. Where: `device`, `power_mode`, and `clocks` as `gpu=921600000;cpu=1479000000`, in Hz.
    Under what: `software` as `torch=2.13.0;threads=1`. `value` is the median of `repeats` and `spread` their
    interquartile range, in the same unit, or None where it is not known. `source` says where the value is from.
    `start_s` to `end_s`, in seconds of Unix time, is when it ran, or None where nobody noted it: what a power log of
    the same time is joined by.
    Raises `TrainwattError` on construction for anything that would not be read back, or not mean what it says.
    """

    kind: str
    what: str
    parameters: str = ""
    batch: int | None = None
    phase: str = ""
    device: str
    power_mode: str = ""
    clocks: str = ""
    software: str = ""
    metric: str
    value: float
    unit: str
    spread: float | None = None
    repeats: int = 1
    source: str
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        _one_of("kind of measurement", self.kind, KINDS)
        _one_of("metric", self.metric, METRICS)
        _one_of("phase", self.phase, PHASES)
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        for name in ("what", "device", "source"):
            if not getattr(self, name):
                raise TrainwattError(f"no {name}; every row names one")
        for name in _SETTINGS:
            read_settings(getattr(self, name), name)
        _check_clocks(self.clocks)
        metric = METRICS[self.metric]
        if self.unit != metric.unit:
            raise TrainwattError(f"unit {self.unit!r} of {self.metric}; it is given in {metric.unit!r}")
        low = self.value >= metric.least if metric.reaches_least else self.value > metric.least
        if not (math.isfinite(self.value) and low and self.value <= metric.most):
            at_least = f"{'from' if metric.reaches_least else 'above'} {metric.least:g}"
            bounds = f" {at_least}" if math.isfinite(metric.least) else ""
            bounds += f" to {metric.most:g}" if math.isfinite(metric.most) else ""
            raise TrainwattError(f"value {self.value:g} of {self.metric}; it is a finite number{bounds}")
        _check_whole("repeats", self.repeats)
        if self.batch is not None:
            _check_whole("batch", self.batch)
        if self.spread is not None:
            if not (math.isfinite(self.spread) and self.spread >= 0):
                raise TrainwattError(f"spread {self.spread:g}; it is a finite number from 0 on, or empty")
            if self.repeats < 2:
                raise TrainwattError(f"spread {self.spread:g} of {self.repeats} repeat; leave it empty")
        _check_times(self.start_s, self.end_s)

    @property
    def settings(self) -> Mapping[str, str]:
        """The parameters by name."""
        return read_settings(self.parameters, "parameters")

    @property
    def setup(self) -> tuple[Any, ...]:
        """What was run, where and under what: the same for two measurements of the same thing."""
        where = (self.device, self.power_mode, self.clocks, self.software)
        return (self.kind, self.what, tuple(sorted(self.settings.items())), self.batch, self.phase, *where)


def read_settings(text: str, name: str = "settings") -> dict[str, str]:
    """Read `key=value;key=value`. Raises `TrainwattError` for another form and for a key twice."""
    found: dict[str, str] = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if not (equals and key and value) or key != key.strip() or value != value.strip():
            raise TrainwattError(f"{name} {text!r}; write key=value;key=value without blanks around them")
        if key in found:
            raise TrainwattError(f"{name} {text!r} with {key!r} twice; give it once")
        found[key] = value
    return found


def settings_text(values: Mapping[str, object]) -> str:
    """Return `key=value;key=value`; sizes of several axes are joined by `x`, yes and no are 1 and 0."""

    def text(value: object) -> str:
        if isinstance(value, tuple | list):
            return "x".join(map(text, value))
        return str(int(value)) if isinstance(value, bool) else str(value)

    return ";".join(f"{key}={text(value)}" for key, value in values.items())


def _one_of(what: str, got: str, known: Any) -> None:
    if got not in known:
        raise unknown(what, got, known, "see docs/measurements.md")


def _check_text(name: str, text: str) -> None:
    if text != text.strip() or not text.isprintable():
        raise TrainwattError(f"{name} {text!r}; write it on one line, without blanks around it")


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise TrainwattError(f"{name} {value}; it is a whole number from 1 on")


def _check_times(start_s: float | None, end_s: float | None) -> None:
    if start_s is None and end_s is None:
        return
    if start_s is None or end_s is None or not (math.isfinite(end_s) and 0 <= start_s <= end_s):
        raise TrainwattError(f"times {start_s} to {end_s}; give start_s and end_s, in seconds of Unix time, or neither")


def _check_clocks(text: str) -> None:
    for key, value in read_settings(text, "clocks").items():
        try:
            hertz = float(value)
        except ValueError:
            hertz = math.nan
        if not (math.isfinite(hertz) and hertz >= 1e4):  # no clock of a processor is slower: MHz or GHz was meant
            raise TrainwattError(f"clock {key}={value}; give it in Hz, such as {key}=921600000")
