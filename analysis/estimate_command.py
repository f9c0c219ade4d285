"""The command `trainwatt estimate`, from a graph to its output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from analysis.output import write
from analysis.runfile import read_run
from analysis.runtext import run_document, run_text, training_form, training_text
from analysis.summary import summary, totals_side_by_side
from hwmodels.above_idle import AboveIdle
from simulator.cost import HardwareModel
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.report import Report, to_json
from simulator.run import Training, cost
from simulator.techniques import Technique, apply
from simulator.work import work_of

RULE = "\n\n" + "-" * 78 + "\n\n"


def priced(
    graph: Graph, hardware: Sequence[HardwareModel], techniques: tuple[Technique, ...], unknown: str
) -> list[Report]:
    """Return the report on each device; techniques give it the untreated step as its baseline."""
    if not techniques:
        return [estimate(graph, device, unknown=unknown) for device in hardware]
    treated = apply(techniques, graph)
    return [
        replace(estimate(treated, device, unknown=unknown), baseline=estimate(graph, device, unknown=unknown))
        for device in hardware
    ]


def counted(hardware: Sequence[HardwareModel], above_idle: bool) -> list[HardwareModel]:
    """Return the devices, with all of their energy or with what is above idle only."""
    return [AboveIdle(model) for model in hardware] if above_idle else list(hardware)


def designed(
    graph: Graph, hardware: Sequence[HardwareModel], techniques: tuple[Technique, ...], text: str, unknown: str
) -> tuple[list[HardwareModel], list[str]]:
    """Return the boards with the design `text` (`auto`: the best for the step with `techniques`), and why."""
    from hwmodels.fpga.choose import design_for

    work = work_of(apply(techniques, graph), unknown=unknown)
    models, reasons = [], []
    for device in hardware:
        model, lines = design_for(device, text, work)
        models.append(model)
        reasons.append("\n".join(lines))
    return models, reasons


def trainings(reports: Sequence[Report], epochs: int | None, dataset_size: int | None) -> list[Training]:
    """Return the run of each report, none where the user asked for none."""
    if epochs is None or dataset_size is None:
        return []
    return [Training(report, epochs, dataset_size) for report in reports]


def text(reports: Sequence[Report], runs: Sequence[Training], *, top: int, verbose: bool) -> str:
    """Return what is printed: the devices side by side where there are several, and each for itself."""
    parts = [summary(report, top=top, verbose=verbose) for report in reports]
    if runs:
        parts = [f"{part}\n\n{training_text(run)}" for part, run in zip(parts, runs, strict=True)]
    return RULE.join([totals_side_by_side(reports), *parts] if len(reports) > 1 else parts)


def document(reports: Sequence[Report], runs: Sequence[Training]) -> str:
    """Return reports, and their runs where there are any, as JSON text."""
    found = to_json(reports)
    if runs:
        for result, run in zip(found["results"], runs, strict=True):
            result["run"] = training_form(run)
    return dumped(found)


def dumped(found: Mapping[str, Any]) -> str:
    """Return a document of plain values as JSON text."""
    return json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False)


def price_run(graph: Graph, hardware: Sequence[HardwareModel], path: str, json_path: str | None, unknown: str) -> None:
    """Price the run of the run file at `path` on each device, and write or print it."""
    run, baseline = read_run(path, graph)
    costs = [
        replace(cost(run, device, unknown=unknown), baseline=cost(baseline, device, unknown=unknown))
        for device in hardware
    ]
    if json_path:
        write(json_path, dumped(run_document(costs)))
    if json_path != "-":
        click.echo(RULE.join(map(run_text, costs)))
