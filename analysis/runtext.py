"""What a training run costs, as text for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.summary import change_text, device_line, joules, step_lines
from analysis.table import pairs, shortened, table
from simulator.report import Report, change_form, plain
from simulator.run import PhaseCost, RunCost, Training
from simulator.spread import Spread
from simulator.totals import Change
from simulator.units import show

SCHEMA = "trainwatt-run"
VERSION = 1

_HEAD = ("steps", "time", "5 % .. 95 %", "energy", "5 % .. 95 %", "peak memory", "fits")


def training_text(training: Training) -> str:
    """Return the cost of an epoch and of the whole run, with the run of the baseline where there is one."""
    stretch = training.run.steps / (training.epochs * training.epoch.steps)
    more = f", stretched by {stretch:.4g}" if stretch != 1 else ""
    head = f"{training.epochs} epochs of {training.dataset_size:,} samples{more}"
    rows: list[tuple[str, PhaseCost | RunCost]] = [("one epoch", training.epoch), ("the run", training.run)]
    if training.run.baseline:
        rows.append(("without techniques", training.run.baseline))
    lines = [head, _table(rows)]
    if training.run.baseline:
        lines.append(_saved(training.run, training.run.baseline))
    return "\n".join(lines)


def run_text(cost: RunCost) -> str:
    """Return a run by phases, in total, and against its baseline."""
    first = cost.phases[0].report
    network = step_lines(first.graph)[0]
    phases = [(f"{n} {shortened(phase.name)}", phase) for n, phase in enumerate(cost.phases, 1)]
    rows: list[tuple[str, PhaseCost | RunCost]] = [*phases, ("total", cost)]
    steps = [("", "batch", "time", "energy", "once")]
    techniques = [("  " + name, phase.report.technique) for name, phase in phases if phase.report.technique]
    for name, phase in phases:
        once = show(sum(r.total.latency_s for r in phase.once), "s") if phase.once else "-"
        total = phase.report.total
        steps.append((name, str(phase.report.graph.batch), show(total.latency_s, "s"), joules(total.energy_j), once))
    if cost.baseline:
        rows.append(("baseline", cost.baseline))
    parts = [pairs([network, ("device", device_line(first))])]
    if techniques:
        parts.append("techniques\n" + pairs(techniques))
    parts += ["one step\n" + table(steps), "run\n" + _table(rows)]
    if cost.baseline:
        parts.append(_saved(cost, cost.baseline))
    return "\n\n".join(parts)


def _table(rows: Sequence[tuple[str, PhaseCost | RunCost]]) -> str:
    return table([("", *_HEAD), *((name, *_cells(cost)) for name, cost in rows)])


def _cells(cost: PhaseCost | RunCost) -> tuple[str, ...]:
    time, energy = cost.latency_s, cost.energy_j
    return (
        f"{cost.steps:,}",
        show(time.mean, "s"),
        f"{show(time.q05, 's')} .. {show(time.q95, 's')}" if time.sd else "-",
        joules(energy.mean),
        f"{joules(energy.q05)} .. {joules(energy.q95)}" if energy.sd else "-",
        show(cost.peak_bytes, "byte"),
        "yes" if cost.fits else "NO",
    )


def _saved(cost: RunCost, baseline: RunCost) -> str:
    names = {"latency_s": "time", "energy_j": "energy", "peak_bytes": "peak memory"}
    changes = _changes(cost, baseline)
    return "change against the baseline: " + ", ".join(f"{names[k]} {change_text(c)}" for k, c in changes.items())


def _changes(cost: RunCost, baseline: RunCost) -> dict[str, Change]:
    return {
        "latency_s": Change(baseline.latency_s.mean, cost.latency_s.mean),
        "energy_j": Change(baseline.energy_j.mean, cost.energy_j.mean),
        "peak_bytes": Change(baseline.peak_bytes, cost.peak_bytes),
    }


def training_form(training: Training) -> dict[str, Any]:
    """Return what `training_text` says as plain values."""
    form = {
        "epochs": training.epochs,
        "dataset_size": training.dataset_size,
        "stretch": float(training.report.graph.meta.get("stretch", 1.0)),
        "epoch": _amount(training.epoch),
        **_total(training.run),
    }
    return dict(plain(form))


def run_document(costs: Sequence[RunCost]) -> dict[str, Any]:
    """Return the cost of a run on each device as one document, which docs/report-format.md describes."""
    return {"schema": SCHEMA, "version": VERSION, "results": [plain(_result(cost)) for cost in costs]}


def _result(cost: RunCost) -> dict[str, Any]:
    first = cost.phases[0].report
    return {
        "network": first.network,
        "device": first.device,
        "mode": first.mode,
        "device_memory_bytes": first.memory_bytes,
        **_total(cost),
        "phases": [_phase(phase) for phase in cost.phases],
        "assumptions": list(dict.fromkeys(text for phase in cost.phases for text in phase.report.assumptions)),
    }


def _phase(phase: PhaseCost) -> dict[str, Any]:
    report = phase.report
    return {
        "name": phase.name,
        "technique": report.technique,
        "batch": report.graph.batch,
        "step": _once(report),
        "once": [_once(once) for once in phase.once],
        **_amount(phase),
    }


def _once(report: Report) -> dict[str, Any]:
    total = report.total
    return {"latency_s": total.latency_s, "energy_j": total.energy_j, "peak_bytes": report.memory.peak_bytes}


def _total(cost: RunCost) -> dict[str, Any]:
    baseline = cost.baseline
    savings = {k: change_form(c) for k, c in _changes(cost, baseline).items()} if baseline else None
    return {**_amount(cost), "baseline": _amount(baseline) if baseline else None, "savings": savings}


def _amount(cost: PhaseCost | RunCost) -> dict[str, Any]:
    time, energy = cost.latency_s, cost.energy_j
    return {
        "steps": cost.steps,
        "latency_s": time.mean,
        "energy_j": energy.mean,
        "peak_bytes": cost.peak_bytes,
        "fits": cost.fits,
        "spread": {"latency_s": asdict(time), "energy_j": asdict(energy)} if _random(time, energy) else None,
    }


def _random(*spreads: Spread) -> bool:
    return any(spread.sd for spread in spreads)
