"""What each technique costs in accuracy on scikit-learn's digits, beside what it saves, as a markdown table.

Every technique at its default setting that can run fine-tunes a small network side by side with plain training: the
same weights, pretrained on the same images negated, the same mini-batches, one thread, several seeds. MACs are counted
in the real steps, time is measured, and the saving on a device (latency and energy of a mini-batch, peak memory) is
what `trainwatt estimate` predicts, with the parameters that the data decide as they turned out. `--only TEXT` takes the
techniques whose name has TEXT in it.

ResNet-20 has the blocks that every technique needs, and images of 16x16, four times the pixels of the digits, keep it
all short.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import replace
from typing import Any

from harness import arguments

from analysis.output import progress_bar
from analysis.run_report import batch_macs, batch_seconds
from analysis.running import Column, Experiment, Settings, run
from hwmodels.device import device
from simulator.errors import first_line
from simulator.estimate import estimate
from simulator.techniques import Technique, techniques

HEAD = (
    "technique",
    "accuracy, %",
    "change to plain, points",
    "executed MACs, counted",
    "predicted",
    "time, measured",
    "latency saved",
    "energy saved",
    "peak memory saved",
)


def main() -> None:
    options = arguments(
        __doc__,
        network="resnet20-cifar",
        input_size=16,
        steps=300,
        pretrain=200,
        batch=16,
        seeds=3,
        optimizer="sgd{momentum=0.9,lr=0.02}",
        device="jetson-nano",
        only="",
    )
    settings = Settings(
        options.network,
        batch=options.batch,
        steps=options.steps,
        pretrain=options.pretrain,
        optimizer=options.optimizer,
        repeats=options.seeds,
        input_size=options.input_size,
    )
    chosen = [cls() for name, cls in techniques().items() if options.only in name]
    failures = {technique: why for technique in chosen if (why := _why_not(settings, technique))}
    runnable = [technique for technique in chosen if technique not in failures]
    with progress_bar(f"training {1 + len(runnable)} times {options.seeds}") as progress:
        experiment = run(settings, [(), *((technique,) for technique in runnable)], progress)
    if experiment.interrupted:
        sys.exit("interrupted; a table of different numbers of steps would compare nothing")
    plain, *treated = experiment.columns
    rows = [_row(column, plain, options.device) for column in treated]

    print(_caption(experiment, options.device) + "\n")
    print(_markdown(rows))
    for technique, why in failures.items():
        print(f"\n{technique}: {why}")
    if options.json:
        document = {"benchmark": "accuracy on digits", "rows": rows, "failed": {str(t): w for t, w in failures.items()}}
        text = json.dumps(document, indent=2)
        if options.json == "-":
            print(text)
        else:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(text + "\n")


def _caption(experiment: Experiment, name: str) -> str:
    """Return what the table is about."""
    settings, plain = experiment.settings, experiment.columns[0]
    shape = "x".join(map(str, experiment.dataset.input_shape))
    seeds = f"{settings.repeats} seeds (mean ± standard deviation)" if settings.repeats > 1 else "one seed"
    return (
        f"{settings.network} (input {shape}) on {len(experiment.dataset.train_inputs)} digits, "
        f"{len(experiment.dataset.test_inputs)} for the test; {settings.steps} mini-batches of {settings.batch} after "
        f"{settings.pretrain} of plain training on negated images, "
        f"{settings.optimizer_text}, {seeds}, one thread. "
        f"Plain training: {_accuracy(plain)} %, {1e3 * (batch_seconds(plain) or 0):.1f} ms a mini-batch. "
        f"Saved: predicted for {name}."
    )


def _why_not(settings: Settings, technique: Technique) -> str:
    """Return why a technique cannot run, in one line; nothing where it can."""
    try:
        run(replace(settings, steps=1, repeats=1), [(technique,)])
    except Exception as error:  # the other rows are worth having even where one technique is broken
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


def _row(column: Column, plain: Column, name: str) -> dict[str, Any]:
    """Return the numbers of a technique; ratios are to plain training, a mini-batch each."""
    hardware = device(name)
    before = estimate(plain.predicted.graph, hardware)
    after = [(estimate(p.graph, hardware), p.passes) for p in column.expected]
    peak = statistics.fmean(p.peak_bytes for p in column.expected)
    changes = [
        100 * (own.after.accuracy - other.after.accuracy)
        for own, other in zip(column.runs, plain.runs, strict=True)  # seed by seed: the same weights and batches
    ]
    return {
        "technique": str(*column.techniques),
        "measured": str(*column.measured),
        "accuracy": _accuracy(column),
        "change_mean": statistics.fmean(changes),
        "change_spread": statistics.stdev(changes) if len(changes) > 1 else None,
        "counted": (batch_macs(column) or 0) / (batch_macs(plain) or 1),
        "predicted": column.predicted.macs / plain.predicted.macs,
        "predicted_measured": column.expected_macs / plain.predicted.macs,
        "time": (batch_seconds(column) or 0) / (batch_seconds(plain) or 1),
        "latency_saved": 1 - statistics.fmean(r.total.latency_s / n for r, n in after) / before.total.latency_s,
        "energy_saved": 1 - statistics.fmean(r.total.energy_j / n for r, n in after) / before.total.energy_j,
        "peak_measured": column.peak_bytes / plain.peak_bytes,
        "peak_predicted": peak / plain.predicted.peak_bytes,
        "peak_saved": 1 - statistics.fmean(r.memory.peak_bytes for r, _ in after) / before.memory.peak_bytes,
    }


def _accuracy(column: Column) -> str:
    mean = column.mean(lambda run: run.after.accuracy) or 0.0
    spread = column.spread(lambda run: run.after.accuracy)
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in rows:
        predicted = f"{row['predicted']:.3f}"
        if row["measured"] != row["technique"]:
            predicted += f" ({row['predicted_measured']:.3f} as measured)"
        change = f"{row['change_mean']:+.1f}"
        if row["change_spread"] is not None:
            change += f" ± {row['change_spread']:.1f}"
        saved = (f"{100 * row[key]:.1f} %" for key in ("latency_saved", "energy_saved", "peak_saved"))
        numbers = (f"{row['counted']:.3f}", predicted, f"{row['time']:.3f}")
        lines.append((f"`{row['technique']}`", row["accuracy"], change, *numbers, *saved))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
