"""What each number of a device file does to time, energy and memory of a step: one at a time up and down, a tornado.

Works on the file's data, so on every pricing model alike: each entry `{ value, kind, source }` is scaled, the device is
made again, and the step is priced on it. Texts, and the tables of other power modes, are left alone.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.pictures.style import BLUE, ORANGE, WIDE_IN, key, picture
from analysis.table import shortened
from hwmodels.device import build, read_file
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph

QUANTITIES = ("time", "energy", "peak memory")
_LEAST = 5e-4
"""Effects below this share are none: they would be shown as 0.0 %."""

_LEADING = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Effect:
    """Changes of `QUANTITIES`, as fractions, with the number at `path` scaled down and up; None where it cannot be."""

    path: str
    kind: str
    down: tuple[float, ...] | None
    up: tuple[float, ...] | None

    @property
    def largest(self) -> float:
        """The largest change of any quantity in either direction, as a fraction."""
        return max((abs(c) for changes in (self.down, self.up) if changes for c in changes), default=0.0)


@dataclass(frozen=True)
class Sensitivity:
    """The effects of varying each number by the fraction `by`, and the refusals by number of those that cannot be."""

    device: str
    mode: str
    by: float
    effects: tuple[Effect, ...]
    refused: Mapping[str, str]


def sensitivity(graph: Graph, name_or_path: str, mode: str | None = None, *, by: float = 0.1) -> Sensitivity:
    """Return what scaling each number of a device by 1 - `by` and 1 + `by` does to one step of `graph`.

    Numbers of other modes than `mode` (the default one, if not given) and the file's default mode, which others are
    scaled from, are left out. Raises `TrainwattError` for a device or mode that does not exist and `by` not in (0, 1).
    """
    if not 0 < by < 1:
        raise TrainwattError(f"variation {by:g}; give a fraction above 0 and below 1, such as 0.1")
    name, data, wanted = read_file(name_or_path, mode)
    before = _measures(graph, name, data, wanted)
    effects, refused = [], {}
    for path in _paths(data):
        if path[0] == "modes" and path[1] not in (wanted, data["default_mode"]):
            continue
        found: dict[float, tuple[float, ...] | None] = {}
        for factor in (1 - by, 1 + by):
            try:
                after = _measures(graph, name, _with(data, path, factor), wanted)
                found[factor] = tuple(a / b - 1 for a, b in zip(after, before, strict=True))
            except TrainwattError as error:
                refused[f"{'.'.join(path)} x {factor:.4g}"] = str(error)
                found[factor] = None
        effects.append(Effect(".".join(path), _entry(data, path)["kind"], found[1 - by], found[1 + by]))
    effects.sort(key=lambda effect: -effect.largest)
    return Sensitivity(name, wanted, by, tuple(effects), refused)


def draw(found: Sensitivity, path: str, *, title: str, top: int = 15) -> None:
    """Write the `top` numbers of largest effect, a panel for each quantity that any of them changes.

    Raises `TrainwattError` where nothing has an effect, and where the picture cannot be written.
    """
    shown = [effect for effect in found.effects if effect.largest > _LEAST][:top]
    if not shown:
        raise TrainwattError(f"no number of {found.device} changes the result by {_LEAST:.2%}; vary them by more")
    panels = [k for k in range(len(QUANTITIES)) if any(abs(c[k]) > _LEAST for e in shown for c in (e.down, e.up) if c)]
    with picture(path, width_in=WIDE_IN, height_in=1.3 + 0.21 * len(shown)) as figure:
        columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, k in zip(columns, panels, strict=True):
            for changes, colour, label in (
                ([e.down for e in shown], ORANGE, f"-{found.by:.0%}"),
                ([e.up for e in shown], BLUE, f"+{found.by:.0%}"),
            ):
                widths = [100 * c[k] if c else 0.0 for c in changes]
                axes.barh(range(len(shown)), widths, height=0.72, color=colour, label=label)
            axes.axvline(0, color="black", linewidth=0.8)
            reach = 100 * max(abs(c[k]) for e in shown for c in (e.down, e.up) if c and np.isfinite(c[k]))
            axes.set(xlim=(-1.1 * reach, 1.1 * reach), title=QUANTITIES[k], xlabel="change (%)")
            axes.grid(False, axis="y")
        columns[0].set_yticks(range(len(shown)), [_named(effect) for effect in shown])
        columns[0].invert_yaxis()
        key(figure, title)


def text(found: Sensitivity) -> str:
    """Return how many numbers have an effect, and which could not be varied."""
    working = sum(effect.largest > _LEAST for effect in found.effects)
    lines = [f"{working} of {len(found.effects)} numbers of {found.device}, mode {found.mode}, change the result"]
    because: dict[str, list[str]] = {}
    for what, why in found.refused.items():
        because.setdefault(why.rpartition("; ")[2], []).append(what)
    lines += [f"  not varied, as {why}: {', '.join(dict.fromkeys(names))}" for why, names in because.items()]
    return "\n".join(lines)


def _named(effect: Effect) -> str:
    """Return the number's path and how it is known, marked where only one of its two ways is possible."""
    marks = {(True, False): " (only -)", (False, True): " (only +)"}
    mark = marks.get((effect.down is not None, effect.up is not None), "")
    return f"{shortened(effect.path, 30)}, {effect.kind}{mark}"


def _measures(graph: Graph, name: str, data: Mapping[str, Any], mode: str) -> Sequence[float]:
    report = estimate(graph, build(name, data, mode))
    return report.total.latency_s, report.total.energy_j, float(report.memory.peak_bytes)


def _paths(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where in a file's data numbers stand."""
    for name, item in table.items():
        if isinstance(item, dict):
            path = (*above, name)
            if {"value", "kind", "source"} <= item.keys():
                yield path
            else:
                yield from _paths(item, path)


def _entry(data: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    found: Any = data
    for name in path:
        found = found[name]
    return dict(found)


def _with(data: Mapping[str, Any], path: Sequence[str], factor: float) -> dict[str, Any]:
    """Return the data with the number at `path` scaled; its unit stays."""
    changed = copy.deepcopy(dict(data))
    table: Any = changed
    for name in path[:-1]:
        table = table[name]
    value = table[path[-1]]["value"]
    if isinstance(value, str):
        match = _LEADING.fullmatch(value)
        assert match is not None  # the device was made of it
        value = f"{float(match[1]) * factor!r}{match[2]}"
    else:
        value = value * factor
    table[path[-1]]["value"] = value
    return changed
