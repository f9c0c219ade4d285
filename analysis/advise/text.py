"""Advice as text for people."""

from __future__ import annotations

from analysis.advise.advice import Advice
from analysis.advise.budgets import Budget, exceeded
from analysis.advise.candidate import Candidate
from analysis.advise.facts import related
from analysis.advise.levels import LEVELS, brief
from analysis.summary import device_line, joules, step_lines
from analysis.table import pairs, shortened, table
from simulator.units import show

_HEAD = ("", "step", "epoch", "energy of it", "memory", "accuracy")


def advice_text(advice: Advice, commands: tuple[str, ...], assumed_size: bool) -> str:
    """Return the choice, what each step of it saved, what was passed over and why, and how to reproduce it."""
    size = f"{advice.schedule.dataset_size:,} samples"
    given = [
        *step_lines(advice.graph),
        ("device", device_line(advice.report)),
        ("budgets", ", ".join(map(str, advice.budgets))),
        ("epoch", size + (" (assumed; give --dataset-size)" if assumed_size else "")),
    ]
    parts = [pairs(given), _headline(advice), _way(advice), _budgets(advice)]
    if advice.plan is not None:
        parts.append(_plan(advice))
    if advice.passed_over:
        parts.append(_passed_over(advice))
    parts.append("reproduce\n" + "\n".join("  " + command for command in commands))
    parts.append(f"{advice.tried} compositions priced; accuracies are published ones of the same network, if any")
    return "\n\n".join(parts)


def called(candidate: Candidate) -> str:
    """Return a configuration in words: techniques and batch size."""
    return f"{brief(candidate.techniques) or 'plain training'}, batch {candidate.batch}"


def _headline(advice: Advice) -> str:
    if advice.chosen is not None:
        return "\n".join([f"advice: {called(advice.chosen)}", *(f"  {line}" for line in _costs(advice, advice.chosen))])
    lines = ["no configuration meets all budgets"]
    for budget, candidate in advice.least:
        value = candidate.values[budget.name]
        kind = "cannot be met" if value > budget.limit else "can be met alone"
        lines.append(f"  {budget}: {kind}; the least is {budget.show(value)} with {called(candidate)}")
    binding = ", ".join(f"{b} ({b.show(advice.nearest.values[b.name])})" for b in advice.binding)
    lines.append(f"  nearest: {called(advice.nearest)}; the budget that binds is {binding}")
    return "\n".join(lines)


def _costs(advice: Advice, chosen: Candidate) -> list[str]:
    """Return what a configuration costs beside time, energy and memory."""
    asked = advice.graph.batch
    lines = [f"{LEVELS[chosen.level]}; accuracy {chosen.accuracy}"]
    if not chosen.accuracy.known:
        near = related(advice.report.network, chosen.techniques)
        lines += [f"published at another setting: {brief(fact.techniques)}: {fact}" for fact in near]
    if chosen.samples != asked:
        lines.append(f"an update is of {chosen.samples} samples instead of {asked}; the learning rate goes with that")
    if chosen.normed and chosen.normed != chosen.samples:
        lines.append(f"batch norms take their statistics over {chosen.normed} samples, not {chosen.samples}")
    if chosen.trained < 1:
        lines.append(f"{chosen.trained:.1%} of the parameters are trained")
    return lines


def _way(advice: Advice) -> str:
    rows = [_HEAD]
    for step in advice.steps:
        c = step.candidate
        cells = (
            show(c.latency_s, "s"),
            show(c.values["time per epoch"], "s"),
            joules(c.values["energy per epoch"]),
            show(c.memory_bytes, "byte"),
        )
        rows.append((shortened(step.added), *cells, str(c.accuracy)))
    notes = []
    for before, after in zip(advice.steps, advice.steps[1:], strict=False):
        notes.append((f"  {shortened(after.added)}", _change(before.candidate, after.candidate)))
    text = "from plain training to it, step by step\n" + table(rows)
    return text + ("\nwhat each step changes\n" + pairs(notes) if notes else "")


def _change(before: Candidate, after: Candidate) -> str:
    named = {"time per epoch": "time", "energy per epoch": "energy", "memory": "memory"}
    return ", ".join(
        f"{short} {100 * (after.values[name] / before.values[name] - 1):+.1f} %" for name, short in named.items()
    )


def _budgets(advice: Advice) -> str:
    rows = [("", "budget", "needed", "slack")]
    for budget in advice.budgets:
        value = advice.nearest.values[budget.name]
        slack = f"{100 * (1 - value / budget.limit):.1f} %"
        rows.append((budget.name, budget.show(budget.limit), budget.show(value), slack))
    return "against the budgets\n" + table(rows)


def _plan(advice: Advice) -> str:
    assert advice.plan is not None
    peak = advice.plan.replayed or advice.plan.peak_bytes
    proof = "proven the cheapest plan" if advice.plan.proven else "a plan, not proven the cheapest,"
    return (
        f"recomputation: {proof} with at most {show(peak, 'byte')} of live memory, "
        f"{show(advice.plan.extra_s, 's')} and {joules(advice.plan.extra_j)} more a step"
    )


def _passed_over(advice: Advice) -> str:
    rows = [("", "level", "over budget")]
    for candidate in advice.passed_over:
        over = ", ".join(_over(b, candidate) for b in exceeded(advice.budgets, candidate.values))
        rows.append((shortened(called(candidate), 72), LEVELS[candidate.level], over))
    return "closer to plain training, but over budget (the nearest of each kind)\n" + table(rows, left=3)


def _over(budget: Budget, candidate: Candidate) -> str:
    return f"{budget.name} {budget.show(candidate.values[budget.name])}"
