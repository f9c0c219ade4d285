"""Real training runs as text for people and as a JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from analysis.running import Column, Experiment
from analysis.table import pairs, percent, table
from simulator.report import plain
from simulator.techniques import Technique
from simulator.units import show
from workloads.training.trial import Run

FORMAT, VERSION = "trainwatt-run", 1


def text_of(techniques: Sequence[Technique]) -> str:
    """Return techniques as `--apply` takes them."""
    return ",".join(map(str, techniques))


def report(experiment: Experiment) -> str:
    """Return what came out: a column for each way to train, and the ratio where there are two."""
    parts = [_header(experiment), _table(experiment), _notes(experiment)]
    return "\n\n".join(part for part in parts if part)


def _header(experiment: Experiment) -> str:
    settings, data = experiment.settings, experiment.dataset
    shape = "x".join(map(str, data.input_shape))
    first, last = experiment.seeds[0], experiment.seeds[-1]
    count = "one thread" if settings.threads == 1 else f"{settings.threads} threads"
    lines = [
        ("network", f"{settings.network} (input {shape})"),
        ("data", f"{data.name}, {len(data.train_inputs)} training and {len(data.test_inputs)} test samples"),
        (
            "training",
            f"{settings.steps} mini-batches of {settings.batch}, {settings.optimizer_text}, {count}"
            + (f", after {settings.pretrain} on negated inputs" if settings.pretrain else ""),
        ),
        ("seed", str(first) if first == last else f"{first} to {last}, means ± standard deviation over them"),
    ]
    lines += [("technique", text_of(column.techniques)) for column in experiment.columns if column.techniques]
    return pairs(lines)


def _table(experiment: Experiment) -> str:
    columns = experiment.columns
    both = len(columns) == 2 and not columns[0].techniques
    rows = [["", *("technique" if column.techniques else "plain" for column in columns), *(["ratio"] if both else [])]]

    def row(name: str, cell: Callable[[Column], str], number: Callable[[Column], float | None] | None = None) -> None:
        cells = [name, *(cell(column) for column in columns)]
        if both:
            cells.append(_ratio(*map(number, columns)) if number else "")
        rows.append(cells)

    row("test accuracy", lambda c: _with_spread(c, lambda run: run.after.accuracy))
    if both:
        rows[-1][-1] = _points(*(column.mean(lambda run: run.after.accuracy) for column in columns))
    row("  before training", lambda c: percent(c.mean(lambda run: run.before.accuracy)))
    row("test loss", lambda c: _plain(c.mean(lambda run: run.after.loss)))
    row("training loss, last tenth", lambda c: _plain(c.mean(lambda run: run.final_loss)))
    row("mini-batches presented", lambda c: str(sum(len(run.batches) for run in c.runs)), _presented)
    row("  trained on", lambda c: str(sum(run.executed for run in c.runs)), _executed)
    row("time of a step, median", lambda c: _seconds(c.step_seconds(0.5)), lambda c: c.step_seconds(0.5))
    row("  10 % to 90 % of them", lambda c: f"{_seconds(c.step_seconds(0.1))} to {_seconds(c.step_seconds(0.9))}")
    row("time of a mini-batch", lambda c: _seconds(batch_seconds(c)), batch_seconds)
    row("MACs of a mini-batch, counted", lambda c: _macs(batch_macs(c)), batch_macs)
    row("  predicted", lambda c: _macs(c.predicted.macs), lambda c: c.predicted.macs)
    if any(column.predicted_measured for column in columns):
        row("  predicted, as measured", lambda c: _macs(c.expected_macs), lambda c: c.expected_macs)
    row("  counted / predicted", lambda c: _ratio(c.expected_macs, batch_macs(c)))
    row("peak memory, measured", lambda c: show(c.peak_bytes, "byte"), lambda c: c.peak_bytes)
    row("  predicted", lambda c: show(c.predicted.peak_bytes, "byte"), lambda c: c.predicted.peak_bytes)
    row("  measured / predicted", lambda c: _ratio(c.predicted.peak_bytes, c.peak_bytes))
    return table(rows, indent=0)


def _notes(experiment: Experiment) -> str:
    lines = []
    for column in experiment.columns:
        for seed, run in zip(experiment.seeds, column.runs, strict=True):
            number = run.diverged_at
            if number is not None:
                what = text_of(column.techniques) or "plain training"
                lines.append(f"{what} diverged with seed {seed}: the loss of executed step {number} is not finite")
        if column.measured != column.techniques:
            lines.append(f'measured parameters: --apply "{text_of(column.measured)}"')
    if experiment.interrupted:
        lines.append("interrupted: this is what was reached")
    return "\n".join(lines)


def batch_seconds(column: Column) -> float | None:
    """Return the mean seconds of a presented mini-batch over the seeds."""
    return column.mean(lambda run: run.batch_seconds)


def batch_macs(column: Column) -> float | None:
    """Return the mean executed MACs of a presented mini-batch over the seeds."""
    return column.mean(lambda run: run.batch_macs)


def _presented(column: Column) -> float:
    return sum(len(run.batches) for run in column.runs)


def _executed(column: Column) -> float:
    return sum(run.executed for run in column.runs)


def _with_spread(column: Column, value: Callable[[Run], float]) -> str:
    spread = column.spread(value)
    mean = percent(column.mean(value))
    return mean if spread is None else f"{mean.removesuffix(' %')} ± {100 * spread:.1f} %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else show(value, "s")


def _macs(value: float | None) -> str:
    return "-" if value is None else show(value, "MAC")


def _ratio(before: float | None, after: float | None) -> str:
    return "-" if before in (None, 0) or after is None else f"{after / before:.3f}"


def _points(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{100 * (after - before):+.1f} points"


def to_json(experiment: Experiment) -> str:
    """Return the document: all settings, predictions, and every mini-batch of every run, in SI base units.

    What is not finite or not known is null.
    """
    settings, data = experiment.settings, experiment.dataset
    document = {
        "format": FORMAT,
        "version": VERSION,
        "network": settings.network,
        "dataset": {
            "name": data.name,
            "input_shape": data.input_shape,
            "classes": data.classes,
            "training_samples": len(data.train_inputs),
            "test_samples": len(data.test_inputs),
        },
        "batch": settings.batch,
        "steps": settings.steps,
        "pretrain": settings.pretrain,
        "optimizer": settings.optimizer_text,
        "threads": settings.threads,
        "interrupted": experiment.interrupted,
        "columns": [_column(column, experiment.seeds) for column in experiment.columns],
    }
    return json.dumps(plain(document), indent=1, allow_nan=False, ensure_ascii=False)


def _column(column: Column, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "applied": text_of(column.techniques) or None,
        "measured": text_of(column.measured) or None,
        "predicted_macs": column.predicted.macs,
        "predicted_measured_macs": column.expected_macs if column.predicted_measured else None,
        "predicted_peak_bytes": column.predicted.peak_bytes,
        "measured_peak_bytes": column.peak_bytes,
        "accuracy": column.mean(lambda run: run.after.accuracy),
        "accuracy_spread": column.spread(lambda run: run.after.accuracy),
        "batch_macs": batch_macs(column),
        "batch_s": batch_seconds(column),
        "step_s": {name: column.step_seconds(at) for name, at in (("median", 0.5), ("low", 0.1), ("high", 0.9))},
        "runs": [_run(run, seed) for run, seed in zip(column.runs, seeds, strict=True)],
    }


def _run(run: Run, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "measured": text_of(run.techniques) or None,
        "before": {"loss": run.before.loss, "accuracy": run.before.accuracy},
        "after": {"loss": run.after.loss, "accuracy": run.after.accuracy},
        "presented": len(run.batches),
        "executed": run.executed,
        "final_loss": run.final_loss,
        "batch_macs": run.batch_macs,
        "batch_s": run.batch_seconds,
        "executed_batches": [batch.executed for batch in run.batches],
        "losses": [batch.loss for batch in run.batches],
        "seconds": [batch.seconds for batch in run.batches],
        "macs": [batch.macs for batch in run.batches],
    }
