"""The command `trainwatt calibrate`, from its options to its output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import click
import numpy as np
from threadpoolctl import threadpool_limits

from analysis.calibration import report
from analysis.calibration.choice import choose
from analysis.calibration.energies import Energies, fit_energies
from analysis.calibration.fit import fit
from analysis.calibration.holding_out import CALIBRATED, NETWORK_BASELINES, HeldOut, hold_out
from analysis.calibration.intervals import interval_of
from analysis.calibration.measured import Measured
from analysis.calibration.observed import observe
from analysis.calibration.parameters import Parameters, parameters_of, with_values
from analysis.calibration.rows import chosen, measured_ops, measured_steps, one_machine
from analysis.calibration.writing import Calibrated
from analysis.measurements.format import read
from analysis.measurements.row import Row
from analysis.output import check_picture, check_writable, progress_bar, write
from hwmodels.device import CALIBRATION
from simulator.errors import TrainwattError

HELD_UP = ("slowed", "throttled")
"""Metrics that tell, where they are above 0, that what was measured is not what the machine takes."""


def calibrate_and_report(
    path: str, *, base: str, mode: str | None, output: str, only: Sequence[str], plot: str | None, json_path: str | None
) -> None:
    """Fit a device to the rows of a file, write its file, and say how far off it is on what was held out.

    Raises `TrainwattError` for what is no such file or device, and rows of several machines.
    """
    check_writable(output)
    if output != "-" and not output.endswith(".toml"):
        raise TrainwattError(f"output {output!r}; a device file ends in .toml")
    if plot is not None:
        check_picture(plot)
    parameters = parameters_of(base, mode)
    rows = chosen(read(path), only)
    machine = one_machine(rows)
    with progress_bar("tracing") as progress:
        measured = [*measured_ops(rows), *measured_steps(rows, parameters.base, progress)]
    if not measured:
        raise TrainwattError(f"no time of an op or a step in {path!r}; measure with 'trainwatt measure --ops'")
    source = _source(path, measured)
    # Small matrices: on a busy machine threads of BLAS wait for each other a thousand times longer than they work.
    with progress_bar("calibrating") as progress, threadpool_limits(1):
        calibrated, held = calibrate(base, parameters, measured, rows, source, progress)
    write(output, calibrated.text())
    click.echo(report.text(calibrated, held, machine), err=output == "-")
    if held_up := sum(row.metric in HELD_UP and row.value > 0 for row in rows):
        click.echo(
            f"rows that say that the machine was held up while it measured: {held_up}; measure it left alone", err=True
        )
    if plot is not None:
        draw(held, calibrated, plot)
    if json_path is not None:
        write(json_path, json.dumps(report.as_json(calibrated, held, machine), allow_nan=False, indent=1))


def calibrate(
    base: str | Path,
    parameters: Parameters,
    measured: Sequence[Measured],
    rows: Sequence[Row],
    source: str,
    progress: Any = lambda share: None,
) -> tuple[Calibrated, list[HeldOut]]:
    """Return the calibrated device and its held-out errors; energies are fitted to the rows that have them."""
    seen = observe(measured)
    terms = choose(parameters, seen)
    fitted = fit(parameters, seen, source, terms)
    held = hold_out(parameters, measured, terms, NETWORK_BASELINES, progress)
    steps, ops = report.steps_and_ops(held)
    errors = np.array([one.log_error for one in steps or ops])
    calibrated = Calibrated(base, parameters.mode, source, fitted, interval_of(errors))
    return replace(calibrated, energies=_energies(calibrated, parameters, rows)), held


def _energies(calibrated: Calibrated, parameters: Parameters, rows: Sequence[Row]) -> Energies:
    """Return the energies that measured joules say; those above idle where there are no others."""
    for metric in ("energy", "energy_above_idle"):
        own = [_as_time(row) for row in rows if row.metric == metric and row.value > 0 and row.kind in ("op", "step")]
        if not own:
            continue
        values = {path: value for path, (value, _) in calibrated.numbers().items()}
        data = {**with_values(parameters.data, values), CALIBRATION: calibrated.table()}
        measured = [*measured_ops(own), *measured_steps(own, parameters.base)]
        return fit_energies(parameters.name, data, parameters.mode, measured, above_idle=metric != "energy")
    return Energies({}, {})


def _as_time(row: Row) -> Row:
    """Return a row of energy as if it were one of time: `Measured` takes any positive quantity of what was run."""
    return replace(row, metric="latency", unit="s", spread=None)


def draw(held: Sequence[HeldOut], calibrated: Calibrated, path: str) -> None:
    """Draw what held-out points were predicted to take against what they took."""
    from analysis.pictures.predicted_measured import Point
    from analysis.pictures.predicted_measured import draw as draw_points

    interval = calibrated.interval
    points = []
    for one in held:
        p = one.predicted[CALIBRATED]
        ends = (None, None) if interval is None else (p * interval.low, p * interval.high)
        points.append(Point(one.of.network, one.of.label or one.of.variant, one.measured_s, p, *ends))
    draw_points(points, path, quantity="time", unit="s")


def _source(path: str, measured: Sequence[Measured]) -> str:
    """Return what a fitted number's source says of the file: name, contents, how much."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
    steps = sum(one.work.row_of_op.size > 1 for one in measured)
    parts = [f"{len(measured) - steps} ops", f"{steps} steps"]
    return f"{Path(path).name} (sha256 {digest}; {', '.join(parts)}), fitted {date.today().isoformat()}"
