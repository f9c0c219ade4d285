"""Advice as JSON."""

from __future__ import annotations

from typing import Any

from analysis.advise.advice import Advice
from analysis.advise.candidate import Candidate
from analysis.advise.levels import LEVELS, brief
from simulator.report import plain

SCHEMA = "trainwatt-advice"
VERSION = 1


def advice_document(advice: Advice, commands: tuple[str, ...], assumed_size: bool) -> dict[str, Any]:
    """Return advice as one document of plain values in SI units, which docs/advise.md describes."""
    plan = advice.plan
    found = {
        "schema": SCHEMA,
        "version": VERSION,
        "network": advice.report.network,
        "device": advice.report.device,
        "mode": advice.report.mode,
        "objective": advice.rules.objective,
        "epochs": advice.schedule.epochs,
        "dataset_size": advice.schedule.dataset_size,
        "dataset_size_assumed": assumed_size,
        "feasible": advice.chosen is not None,
        "budgets": [
            {"name": b.name, "limit": b.limit, "needed": advice.nearest.values[b.name]} for b in advice.budgets
        ],
        "configuration": _configuration(advice.nearest),
        "steps": [{"added": step.added, **_configuration(step.candidate)} for step in advice.steps],
        "passed_over": [_configuration(candidate) for candidate in advice.passed_over],
        "least": [
            {"name": b.name, "value": candidate.values[b.name], **_configuration(candidate)}
            for b, candidate in advice.least
        ],
        "recomputation": None
        if plan is None
        else {
            "peak_bytes": plan.replayed or plan.peak_bytes,
            "extra_s": plan.extra_s,
            "extra_j": plan.extra_j,
            "gap": plan.gap,
            "proven": plan.proven,
        },
        "commands": list(commands),
        "compositions": advice.tried,
    }
    return dict(plain(found))


def _configuration(candidate: Candidate) -> dict[str, Any]:
    return {
        "techniques": brief(candidate.techniques),
        "level": LEVELS[candidate.level],
        "batch": candidate.batch,
        "samples": candidate.samples,
        "latency_s": candidate.latency_s,
        "energy_j": candidate.energy_j,
        "needed_bytes": candidate.memory_bytes,
        "trained": candidate.trained,
        "batch_norm_samples": candidate.normed,
        "epoch_steps": candidate.epoch_steps,
        "run_steps": candidate.run_steps,
        "accuracy": {
            "known": candidate.accuracy.known,
            "kept": candidate.accuracy.kept,
            "facts": [str(fact) for fact in candidate.accuracy.facts],
        },
    }
