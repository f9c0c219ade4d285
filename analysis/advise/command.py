"""The command `trainwatt advise`, from a graph to its output."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from analysis.advise.advice import Advice, advise
from analysis.advise.budgets import DEFAULT_DATASET_SIZE, Schedule, budgets
from analysis.advise.document import advice_document
from analysis.advise.levels import LEVELS, brief
from analysis.advise.search import Rules
from analysis.advise.text import advice_text
from analysis.estimate_command import dumped
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError, unknown
from simulator.graph import Graph
from simulator.techniques import techniques

INFEASIBLE = 1
"""The exit code where no configuration meets the budgets; bad input is 2."""


def rules_of(accept: str, kept: float | None, objective: str, allowed: str | None) -> Rules:
    """Return the rules that options state. Raises `TrainwattError` for a technique that does not exist and a share
    of accuracy that is none."""
    if kept is not None and not 0 < kept <= 100:
        raise TrainwattError(f"--min-accuracy-kept {kept:g}; it is a share in percent, above 0 and at most 100")
    names = None if allowed is None else frozenset(word for p in allowed.split(",") if (word := p.strip()))
    for name in sorted(names or ()):
        if name not in techniques():
            raise unknown("technique", name, techniques())
    return Rules(LEVELS.index(accept), None if kept is None else kept / 100, objective, names)


def answer(
    graph: Graph,
    model: HardwareModel,
    limits: Mapping[str, str | None],
    schedule: tuple[int | None, int | None],
    rules: Rules,
    free_batch: bool,
    arguments: tuple[str, ...],
) -> tuple[Advice, str, str]:
    """Return the advice for `graph`, as text and as JSON.

    `limits` are budgets as text by name, `schedule` epochs and samples of an epoch, None where not given. `arguments`
    are those of `trainwatt estimate` that name network, device and how the step is traced.
    """
    epochs, size = schedule
    found = budgets(limits, float(model.memory_bytes))
    plan = Schedule(epochs or 1, size or DEFAULT_DATASET_SIZE)
    advice = advise(graph, model, found, plan, rules, free_batch)
    commands = (_command(advice, arguments),)
    assumed = size is None
    return advice, advice_text(advice, commands, assumed), dumped(advice_document(advice, commands, assumed))


def _command(advice: Advice, arguments: tuple[str, ...]) -> str:
    """Return the line that prints the costs of what was chosen."""
    nearest = advice.nearest
    words = ["trainwatt", "estimate", *arguments, "--batch", str(nearest.batch)]
    if nearest.techniques:
        words += ["--apply", brief(nearest.techniques)]
    schedule = ["--epochs", str(advice.schedule.epochs), "--dataset-size", str(advice.schedule.dataset_size)]
    return shlex.join([*words, *schedule])


def estimate_arguments(
    source: str, device: str, mode: str | None, options: Mapping[str, tuple[str, Any]]
) -> tuple[str, ...]:
    """Return the arguments of `trainwatt estimate`; `options` are the tracing options by name, with flag and value."""
    words = [source, "--device", device, *(["--power-mode", mode] if mode else [])]
    for name, (flag, value) in options.items():
        if name == "batch" or value in (None, False, ()):
            continue
        if value is True:
            words.append(flag)
        else:
            for each in value if isinstance(value, tuple) else (value,):
                words += [flag, str(each)]
    return tuple(words)
