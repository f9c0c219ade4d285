"""Tables of latency on a Jetson TX2: pruned networks from some levels, networks never seen, speed-up by pruning.

Errors are mean |predicted / measured - 1| in %. Baselines are fitted to the same rows as the calibrated model. `exact`
means rows whose structure is known exactly: ResNet-50 at every level, the others unpruned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tx2_data import FITTED_LEVELS, exact, only

from analysis.calibration.baselines import NINE, PROPORTIONAL, Baseline, Predictor, Trees, Uncalibrated
from analysis.calibration.choice import choose
from analysis.calibration.fit import Terms, fit
from analysis.calibration.measured import Measured
from analysis.calibration.observed import observe
from simulator.cost import HardwareModel
from simulator.work import Floats

Steps = Mapping[tuple[str, int], Measured]
POINTS = (0, 5, 10, 50)
"""Steps of a new network that a fit may see."""
PUBLISHED = {
    "a": {
        "resnet50": (3.4, 3.8), "googlenet": (5.2, 5.7), "mnasnet": (4.5, 5.4), "squeezenet": (5.5, 5.5),
        "resnet18": (6.4, 5.7), "mobilenetv2": (7.0, 10.0), "all": (5.3, 6.0),
    },
    "b": {"all": (15.3, 11.6)},
    "c": {"MACs": 32.0, "nine coefficients": 5.4},
}  # fmt: skip
"""Errors in % of the published method (trees) and of nine coefficients, as others replicated them on these rows; "all"
is of six networks."""


class Calibrated:
    """The device with its prices corrected by what was measured; the numbers of its file stay.

    What corrections go by is for held-out error to say, of the rows of the first fit and once for all: at three of
    the batch sizes of each network and level, as a choice takes as long as many fits.
    """

    name = "calibrated"

    def __init__(self, base: HardwareModel) -> None:
        self._base = base
        self._terms: Terms | None = None

    def fit(self, measured: Sequence[Measured]) -> Predictor:
        if self._terms is None:
            few = [only(one, np.unique([0, one.seconds.size // 2, one.seconds.size - 1])) for one in measured]
            self._terms = choose(self._base, observe(few))
            print(f"calibrated by {self._terms}", file=sys.stderr)
        return fit(self._base, measured, terms=self._terms)


def methods(base: HardwareModel) -> tuple[Baseline, ...]:
    """Return all ways to predict, the calibrated device last."""
    return (Uncalibrated(base), PROPORTIONAL, NINE, Trees(), Calibrated(base))


def errors(predictor: Predictor, measured: Sequence[Measured]) -> Floats:
    """Return |predicted / measured - 1| of all points."""
    return np.concatenate([np.abs(predictor.seconds(one) / one.seconds - 1.0) for one in measured])


def by_level(base: HardwareModel, steps: Steps) -> list[dict[str, Any]]:
    """Return table (a): every network, fitted to some of its pruning levels, the other levels predicted."""
    rows = []
    for network in dict.fromkeys(name for name, _ in steps):
        known = [one for (name, level), one in steps.items() if name == network and level in FITTED_LEVELS]
        new = [one for (name, level), one in steps.items() if name == network and level not in FITTED_LEVELS]
        if not (known and new):
            continue
        found = {method.name: errors(method.fit(known), new) for method in methods(base)}
        row: dict[str, Any] = {"network": network, "fitted_to": sum(one.seconds.size for one in known)}
        row |= {"predicted": len(found["calibrated"])} | {name: 100 * float(e.mean()) for name, e in found.items()}
        row["within_10_%"] = 100 * float((found["calibrated"] <= 0.1).mean())
        rows.append(row)
    return _with_mean(rows, "a")


def left_out(base: HardwareModel, steps: Steps, seed: int) -> list[dict[str, Any]]:
    """Return table (b): every network from the others and from 0 or some points of its own, drawn at random.

    Fitted to exact structures alone; predicted are all other points, and of these the exact ones (`exact_`).
    """
    rows = []
    ways = methods(base)
    for network in dict.fromkeys(name for name, _ in steps):
        others = [one for key, one in steps.items() if key[0] != network and exact(*key)]
        own = {key: one for key, one in steps.items() if key[0] == network}
        if not others:
            continue
        for count in POINTS:
            seen, new = _drawn(own, count, seed)
            row: dict[str, Any] = {"network": network, "points": count}
            for method in ways:
                predictor = method.fit([*others, *seen])
                row[method.name] = 100 * float(errors(predictor, list(new.values())).mean())
                certain = [one for key, one in new.items() if exact(*key)]
                row[f"exact_{method.name}"] = 100 * float(errors(predictor, certain).mean()) if certain else None
            rows.append(row)
    return [row for count in POINTS for row in _with_mean([r for r in rows if r["points"] == count], "b" * (not count))]


def _drawn(own: Steps, count: int, seed: int) -> tuple[list[Measured], Steps]:
    """Return so many of the points, and those that are left."""
    places = [(key, i) for key, one in own.items() for i in range(one.seconds.size)]
    order = np.random.default_rng(seed).permutation(len(places))
    drawn = {places[i] for i in order[:count]}
    seen, left = [], {}
    for key, one in own.items():
        of_key = np.array([(key, i) in drawn for i in range(one.seconds.size)])
        if of_key.any():
            seen.append(only(one, np.flatnonzero(of_key)))
        if not of_key.all():
            left[key] = only(one, np.flatnonzero(~of_key))
    return seen, left


def speedups(base: HardwareModel, steps: Steps) -> list[dict[str, Any]]:
    """Return table (c): the speed-up by pruning ResNet-50, from models fitted to unpruned networks alone."""
    unpruned = [one for (_, level), one in steps.items() if level == 0]
    whole = steps.get(("resnet50", 0))
    pruned = [one for (name, level), one in steps.items() if name == "resnet50" and level]
    if whole is None or not pruned:
        return []
    rows = []
    for method in methods(base):
        predictor = method.fit(unpruned)
        found = np.concatenate([_gain_error(predictor.seconds, whole, one) for one in pruned])
        row: dict[str, Any] = {"method": method.name, "speedups": found.size, "error_%": 100 * float(found.mean())}
        rows.append({**row, "published_%": PUBLISHED["c"].get(method.name)})
    return rows


def _gain_error(predict: Callable[[Measured], Floats], whole: Measured, pruned: Measured) -> Floats:
    """Return |predicted speed-up / measured - 1| at the batch sizes that both have."""
    batches, others = (one.work.nest["n"].max(axis=0) for one in (whole, pruned))
    _, of_whole, of_pruned = np.intersect1d(batches, others, return_indices=True)
    measured = whole.seconds[of_whole] / pruned.seconds[of_pruned]
    found: Floats = np.abs(predict(whole)[of_whole] / predict(pruned)[of_pruned] / measured - 1.0)
    return found


def _with_mean(rows: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    """Return rows with their mean below them, and the published errors beside them where there are some."""
    means = {
        name: float(np.mean([row[name] for row in rows if row[name] is not None]))
        for name, value in (rows[0].items() if rows else ())
        if isinstance(value, float)
    }
    first = {"points": rows[0]["points"]} if rows and "points" in rows[0] else {}
    published = PUBLISHED.get(table, {})
    full = [*rows, {"network": "all", **first, **means}] if rows else []
    if not published:
        return full
    beside = [published.get(row["network"], (None, None)) for row in full]
    return [
        {**row, "published_trees": trees, "published_nine": nine}
        for row, (trees, nine) in zip(full, beside, strict=True)
    ]
