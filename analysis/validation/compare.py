"""From measured rows to comparisons with what a device model predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.measurements.row import Row
from analysis.validation.comparison import Comparison, ratio_spread, relative
from analysis.validation.predictor import APPLIED, FOUND, Predictor
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError

_OF_STEPS = {"latency": "latency_s", "energy": "energy_j", "peak_memory": "peak_bytes"}


@dataclass(frozen=True)
class Compared:
    """Comparisons, and why rows were left out, one line a reason with how many."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]


@dataclass
class _Reasons:
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{n} row{'s' if n > 1 else ''}: {reason}" for reason, n in self.counts.items())


def compare(
    rows: Sequence[Row], device: HardwareModel, progress: Callable[[float], None] = lambda share: None
) -> Compared:
    """Return what `device` predicts beside every row that it can say something of.

    These are steps (latency, energy, peak memory), speedups of techniques where the step without them was measured
    too, and ops.
    """
    reasons = _Reasons()
    steps, ops = [], []
    for row in rows:
        whole = row.phase == "" or row.kind == "op"
        if row.metric == "out_of_memory":
            reasons.add("did not fit into memory")
        elif row.metric == "not_applicable":
            reasons.add(row.source)
        elif row.metric == "slowed":
            reasons.add("says that the machine was held up while it measured")
        elif row.kind == "op" and row.metric == "latency":
            ops.append(row)
        elif row.kind in ("step", "memory") and row.metric in _OF_STEPS and row.batch is not None and whole:
            steps.append(row)
        elif row.kind in ("step", "memory") and not whole:
            reasons.add("is of one phase; whole steps are compared")
        else:
            reasons.add(
                f"{row.metric} of a {row.kind}; compared are latency, energy, peak_memory of steps, latency of ops"
            )
    predictor = Predictor(device)
    found = []
    for number, row in enumerate(steps):
        try:
            found.append((row, _of_step(row, predictor)))
        except TrainwattError as error:
            reasons.add(f"{row.what}: {error}")
        progress((number + 1) / (len(steps) + 1))
    comparisons = [one for _, one in found] + _speedups(found) + _of_ops(ops, device, reasons)
    return Compared(tuple(comparisons), reasons.lines())


def _of_step(row: Row, predictor: Predictor) -> Comparison:
    value = float(getattr(predictor.step(row), _OF_STEPS[row.metric]))
    low, high = _interval(predictor.device, value) if row.metric == "latency" else (None, None)
    asked = row.settings.get(APPLIED, "")
    return Comparison(row.metric, row.what, row.batch, asked, row.software, row.value, value, row.spread, low, high)


def _interval(device: HardwareModel, value: float) -> tuple[float | None, float | None]:
    interval: Any = getattr(device, "interval", None)
    return (None, None) if interval is None else (value * interval.low, value * interval.high)


def _speedups(found: Sequence[tuple[Row, Comparison]]) -> list[Comparison]:
    """Return the speedup of every latency with a technique whose step without it was measured under the same setup."""

    def setup(row: Row) -> tuple[Any, ...]:
        settings = tuple(sorted((k, v) for k, v in row.settings.items() if k not in (APPLIED, FOUND)))
        return (row.what, row.batch, settings, row.device, row.power_mode, row.clocks, row.software)

    latencies = [(row, one) for row, one in found if one.quantity == "latency"]
    plain = {setup(row): one for row, one in latencies if not one.technique}
    made = []
    for row, one in latencies:
        base = plain.get(setup(row)) if one.technique else None
        if base is None:
            continue
        ratio = base.measured / one.measured
        spread = ratio_spread(ratio, relative(base.spread, base.measured), relative(one.spread, one.measured))
        predicted = base.predicted / one.predicted
        made.append(Comparison("speedup", one.what, one.batch, one.technique, one.setting, ratio, predicted, spread))
    return made


def _of_ops(rows: Sequence[Row], device: HardwareModel, reasons: _Reasons) -> list[Comparison]:
    from analysis.calibration.rows import measured_ops
    from simulator.work import stack

    known = []
    for row in rows:
        try:
            known.append((row, measured_ops([row])[0].work))
        except TrainwattError as error:
            reasons.add(str(error))
    if not known:
        return []
    work = stack([table for _, table in known])
    seconds = device.price(work).latency_s[work.row_of_op]
    return [
        Comparison(
            "op latency", f"{row.what} {row.parameters}", row.batch, "", row.software, row.value, float(s), row.spread
        )
        for (row, _), s in zip(known, seconds, strict=True)
    ]
