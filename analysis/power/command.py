"""The command `trainwatt power`, from its options to its output."""

from __future__ import annotations

import json
from pathlib import Path

import click

from analysis.output import check_writable, write
from analysis.power.energy import measure
from analysis.power.reading import parse
from analysis.power.report import document, text


def report_power(
    log: str,
    *,
    kind: str,
    interval_s: float | None,
    from_s: float | None,
    to_s: float | None,
    idle_from_s: float | None,
    idle_to_s: float | None,
    rail: str | None,
    json_path: str | None,
) -> None:
    """Print duration, mean power and energy of a window of a log. Raises `TrainwattError` for bad input."""
    if json_path is not None:
        check_writable(json_path)
    trace = parse(Path(log), kind, interval_s)
    measured = measure(trace, from_s=from_s, to_s=to_s, idle_from_s=idle_from_s, idle_to_s=idle_to_s, rail=rail)
    if json_path is not None:
        write(json_path, json.dumps(document(trace, measured), indent=1, allow_nan=False, ensure_ascii=False))
    if json_path != "-":
        click.echo(text(trace, measured))
