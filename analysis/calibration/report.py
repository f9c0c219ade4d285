"""What a calibration says of itself: held-out errors by what was held out, what was fitted, what was never measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from analysis.calibration.holding_out import CALIBRATED, HeldOut
from analysis.calibration.intervals import COVERAGE, covered
from analysis.calibration.rows import OPS
from analysis.calibration.writing import Calibrated
from analysis.table import percent, table
from hwmodels.corrected.features import kernel_of
from simulator.work import KERNELS, Floats

WITHIN = 0.1


def errors_of(held: Sequence[HeldOut], method: str = CALIBRATED) -> dict[str, float]:
    """Return mean, median and largest |predicted / measured - 1|, and the share of points within 10 %."""
    off = np.abs([one.error(method) for one in held])
    return {
        "mape": float(off.mean()),
        "median": float(np.median(off)),
        "worst": float(off.max()),
        "within_10": float((off <= WITHIN).mean()),
    }


def split(held: Sequence[HeldOut], key: Callable[[HeldOut], str]) -> dict[str, list[HeldOut]]:
    """Return held-out points by what `key` says of them, in order of first appearance."""
    found: dict[str, list[HeldOut]] = {}
    for one in held:
        found.setdefault(key(one), []).append(one)
    return found


def network(one: HeldOut) -> str:
    return one.of.network


def phase(one: HeldOut) -> str:
    return one.of.variant.rpartition(" ")[2] or "whole step"


def kind(one: HeldOut) -> str:
    return one.of.variant


def steps_and_ops(held: Sequence[HeldOut]) -> tuple[list[HeldOut], list[HeldOut]]:
    """Return points of whole steps, and of single ops."""
    return [one for one in held if one.of.network != OPS], [one for one in held if one.of.network == OPS]


def coverage_of(held: Sequence[HeldOut]) -> float | None:
    """Return the share of points within intervals that the other folds give."""
    errors: Floats = np.array([one.log_error for one in held])
    return covered(errors, np.array([one.fold for one in held]))


def never_measured(calibrated: Calibrated) -> list[str]:
    """Return the kernel classes of which nothing was measured."""
    seen = {kernel_of(name) for name in calibrated.fitted.correction.ranges}
    return [name for name in KERNELS if name not in seen and name != "view"]


def text(calibrated: Calibrated, held: Sequence[HeldOut], machine: str) -> str:
    """Return the report of a calibration as text."""
    steps, ops = steps_and_ops(held)
    parts = [f"{calibrated.source}\nmeasured on {machine}", f"fitted: {calibrated.fitted.terms}", _numbers(calibrated)]
    if steps:
        parts.append("error on networks that were held out\n" + _table(split(steps, network)))
        by_phase = split(steps, phase)
        if len(by_phase) > 1:
            parts.append("by phase\n" + _table(by_phase))
    if ops:
        parts.append("error on ops that were held out\n" + _table(split(ops, kind)))
    parts += [_methods(part, name) for part, name in ((steps, "steps"), (ops, "ops")) if part]
    parts.append(_interval(calibrated, steps or ops))
    if missing := never_measured(calibrated):
        parts.append("never measured, so priced as the base says times what all have in common: " + ", ".join(missing))
    return "\n\n".join(part for part in parts if part)


def as_json(calibrated: Calibrated, held: Sequence[HeldOut], machine: str) -> dict[str, Any]:
    """Return the report as plain values; errors are shares."""
    steps, ops = steps_and_ops(held)
    return {
        "schema": "trainwatt-calibration",
        "version": 1,
        "source": calibrated.source,
        "machine": machine,
        "terms": str(calibrated.fitted.terms),
        "numbers": {
            path: {"value": value, "relative_error": error} for path, (value, error) in calibrated.numbers().items()
        },
        "networks": {name: errors_of(own) for name, own in split(steps, network).items()},
        "phases": {name: errors_of(own) for name, own in split(steps, phase).items()},
        "ops": {name: errors_of(own) for name, own in split(ops, kind).items()},
        "methods": {
            name: {m: errors_of(part, m) for m in part[0].predicted}
            for part, name in ((steps, "steps"), (ops, "ops"))
            if part
        },
        "coverage": coverage_of(steps or ops) if held else None,
        "never_measured": never_measured(calibrated),
    }


def _table(groups: dict[str, list[HeldOut]]) -> str:
    rows = [("", "points", "mean", "median", "worst", "within 10 %")]
    everything = [one for own in groups.values() for one in own]
    for name, own in [*groups.items(), *([("all", everything)] if len(groups) > 1 else [])]:
        rows.append((name, str(len(own)), *_cells(errors_of(own))))
    return table(rows)


def _cells(errors: dict[str, float]) -> tuple[str, ...]:
    return tuple(percent(errors[name]) for name in ("mape", "median", "worst", "within_10"))


def _methods(held: Sequence[HeldOut], name: str) -> str:
    rows = [("", "mean", "median", "worst", "within 10 %")]
    rows += [(method, *_cells(errors_of(held, method))) for method in held[0].predicted]
    return f"beside simpler methods, on the same held-out {name}\n" + table(rows)


def _numbers(calibrated: Calibrated) -> str:
    rows = [("number of the device", "fitted", "standard error")]
    rows += [(path, f"{value:.4g}", percent(error)) for path, (value, error) in calibrated.numbers().items()]
    factors = calibrated.fitted.correction.factors
    rows += [
        (f"factor of {name or 'all ops'}", f"{np.exp(g):.3g}", percent(calibrated.fitted.factor_errors[name]))
        for name, g in factors.items()
        if abs(g) > 0.005
    ]
    return table(rows) if len(rows) > 1 else ""


def _interval(calibrated: Calibrated, held: Sequence[HeldOut]) -> str:
    if calibrated.interval is None:
        return f"no prediction interval: too few points were held out for one of {COVERAGE:.0%}"
    said = (
        f"{calibrated.interval.coverage:.0%} of held-out points are within a factor of {calibrated.interval.high:.3g}"
    )
    inside = coverage_of(held)
    return said + (f"; intervals of the other folds cover {percent(inside)}" if inside is not None else "")
