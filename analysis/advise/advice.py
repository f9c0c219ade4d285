"""The answer to "which configuration meets these budgets?", with what is needed to explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from analysis.advise.budgets import Budget, Schedule, exceeded, excess
from analysis.advise.candidate import Candidate, Pricer
from analysis.advise.levels import brief
from analysis.advise.objective import OBJECTIVES
from analysis.advise.relief import Relief
from analysis.advise.rematerialisation import Plan
from analysis.advise.search import Rules, Search
from simulator.cost import HardwareModel
from simulator.graph import Graph
from simulator.report import Report

MOST_BATCH = 512
"""The largest batch size that is tried where it is free."""


@dataclass(frozen=True)
class Step:
    """One step from plain training to what was chosen: `added` is what is new, `candidate` what it costs by then."""

    added: str
    candidate: Candidate


@dataclass(frozen=True)
class Advice:
    """The configuration `chosen` for `budgets` (None: none meets them) of the step `graph` on `model`.

    `steps` lead to it from plain training, or to `nearest`, the configuration that comes nearest to the budgets.
    `passed_over` are configurations that would have been preferred and exceed a budget: of each level and number of
    techniques the one that comes nearest. `least` is the lowest value found of each budgeted quantity, on its own, and
    with what. `plan` is the plan of recomputation, where there is one in it.
    """

    graph: Graph
    model: HardwareModel
    schedule: Schedule
    budgets: tuple[Budget, ...]
    rules: Rules
    chosen: Candidate | None
    nearest: Candidate
    report: Report
    steps: tuple[Step, ...]
    passed_over: tuple[Candidate, ...]
    least: tuple[tuple[Budget, Candidate], ...]
    plan: Plan | None
    tried: int

    @property
    def binding(self) -> tuple[Budget, ...]:
        """The budgets that `nearest` exceeds."""
        return exceeded(self.budgets, self.nearest.values)


def advise(
    graph: Graph,
    model: HardwareModel,
    budgets: tuple[Budget, ...],
    schedule: Schedule,
    rules: Rules,
    free_batch: bool,
) -> Advice:
    """Return the best configuration within `budgets` under `rules`; the batch size of `graph` unless `free_batch`."""
    sizes = _batches(graph) if free_batch else [graph.batch]
    if graph.smallest_batch > 1 and 1 not in sizes:
        graph = replace(graph, other=None)  # the form of batch 1, which techniques would be applied to as well
    pricer = Pricer(graph, model, schedule, np.array(sizes, dtype=np.int64))
    extra: Literal["time", "energy"] = "energy" if rules.objective == "least-energy" else "time"
    search = Search(pricer, budgets, rules, Relief(pricer, extra))
    chosen = search.best()
    seen = list(search.seen.values())
    start = pricer.confirm(next(c for c in pricer.candidates(()) if c.batch == graph.batch))
    nearest = chosen or pricer.confirm(min([start, *seen], key=lambda c: excess(budgets, c.values)))
    return Advice(
        pricer.graph,
        model,
        schedule,
        budgets,
        rules,
        chosen,
        nearest,
        pricer.report(nearest),
        _steps(pricer, start, nearest),
        tuple(map(pricer.confirm, _passed_over(search, nearest))),
        tuple((b, pricer.confirm(min([start, *seen], key=lambda c: c.values[b.name]))) for b in budgets),
        search.relief.plans.get(nearest.techniques),
        len({candidate.techniques for candidate in seen}),
    )


def _batches(graph: Graph) -> list[int]:
    """Return the batch sizes to try: powers of two and half as much again, with the graph's own.

    A batch of 1 is left out where PyTorch runs another step for it.
    """
    if graph.meta.get("fixed_batch"):
        return [graph.batch]
    sizes = {graph.batch}
    power = 1
    while power <= MOST_BATCH:
        sizes |= {power, min(power + power // 2, MOST_BATCH)}
        power *= 2
    return sorted(sizes - {1} if graph.smallest_batch > 1 and graph.batch > 1 else sizes)


def _steps(pricer: Pricer, start: Candidate, end: Candidate) -> tuple[Step, ...]:
    """Return plain training, the batch size, and the techniques one after the other."""
    steps = [Step("plain training", start)]
    each = np.array([end.batch], dtype=np.int64)
    before: Candidate = start
    for count in range(len(end.techniques) + 1):
        found = pricer.candidates(end.techniques[:count], each)
        if not found:  # a step that exists only with what comes after it
            continue
        at = end if count == len(end.techniques) else pricer.confirm(found[0])
        if count or at.batch != before.batch:
            steps.append(Step(brief(end.techniques[count - 1 : count]) if count else f"batch {end.batch}", at))
        before = at
    return tuple(steps)


def _passed_over(search: Search, nearest: Candidate) -> Sequence[Candidate]:
    """Return, for each level and number of departures, the preferred configuration that exceeds its budgets least.

    What was chosen at another batch size is not among them.
    """
    order = OBJECTIVES["accurate"]
    key = order(nearest, search.pricer.graph.batch)
    found: dict[tuple[int, int], Candidate] = {}
    for candidate in search.seen.values():
        failing = exceeded(search.budgets, candidate.values)
        if (
            not failing
            or candidate.techniques == nearest.techniques
            or order(candidate, search.pricer.graph.batch) >= key
        ):
            continue
        group = (candidate.level, candidate.departures)
        best = found.get(group)
        if best is None or excess(search.budgets, candidate.values) < excess(search.budgets, best.values):
            found[group] = candidate
    return [found[group] for group in sorted(found)]
