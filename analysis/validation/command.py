"""The command `trainwatt validate`, from its options to its output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from analysis.measurements.command import batch_sizes
from analysis.measurements.format import read
from analysis.measurements.row import Row
from analysis.output import check_picture, check_writable, progress_bar, write
from analysis.source import check_network, is_graph_file
from analysis.validation.compare import compare
from analysis.validation.measure import measure_cases
from analysis.validation.report import csv_text, draw_all, text
from simulator.errors import TrainwattError

HOST = "host"
GENERIC = "x86-avx512"
"""What `--device host` means: cores like this machine's, their numbers not fitted to it."""


def validate_and_report(
    networks: str | None,
    applied: Sequence[str],
    *,
    batches: str,
    device_name: str,
    mode: str | None,
    measurements: str | None,
    path: str | None,
    csv_path: str | None,
    plot_path: str | None,
    repeats: int,
    threads: int,
    time_limit_s: float | None,
) -> None:
    """Measure, or read what was measured, and say how far off the predictions are. Raises `TrainwattError`."""
    if (networks is None) == (measurements is None):
        raise TrainwattError("what to validate is missing; give either --networks NAMES or --measurements FILE")
    if measurements is not None and (applied or path):
        raise TrainwattError("--measurements with --apply or -o; what was measured is in the file already")
    if csv_path:
        check_writable(csv_path)
    if plot_path:
        check_picture(plot_path)
    device = _device(device_name, mode)
    missing: tuple[str, ...] = ()
    if measurements is not None:
        rows: Sequence[Row] = read(measurements)
    else:
        assert networks is not None
        names = [name.strip() for name in networks.split(",")]
        rows, missing = _measured(names, batch_sizes(batches), applied, path, repeats, threads, time_limit_s)
    with progress_bar("predicting") as progress:
        found = compare(rows, device, progress)
    if not found.comparisons:
        reasons = "; ".join((*missing, *found.left_out)) or "the file has no rows"
        raise TrainwattError(f"nothing to compare: {reasons}")
    if csv_path:
        write(csv_path, csv_text(found.comparisons))
    if csv_path != "-":
        click.echo(text(found.comparisons, (*missing, *found.left_out)))
    for drawn in draw_all(found.comparisons, plot_path) if plot_path else []:
        click.echo(f"drawn: {drawn}", err=csv_path == "-")


def _device(name: str, mode: str | None):  # type: ignore[no-untyped-def]
    from hwmodels.corrected.model import Corrected
    from hwmodels.device import device

    chosen = device(GENERIC if name == HOST else name, mode)
    if name == HOST or (not isinstance(chosen, Corrected) and chosen.name.startswith("x86-")):
        fit = "'trainwatt measure --ops' and 'trainwatt calibrate' fit them"
        click.echo(f"warning: the numbers of {chosen.name} are for no machine in particular; {fit}", err=True)
    return chosen


def _measured(
    names: Sequence[str],
    batches: Sequence[int],
    applied: Sequence[str],
    path: str | None,
    repeats: int,
    threads: int,
    time_limit_s: float | None,
) -> tuple[Sequence[Row], tuple[str, ...]]:
    from simulator.techniques import parse

    if path is None:
        raise TrainwattError("no file for what is measured; give -o FILE, which keeps it if the run is stopped")
    check_writable(path)
    for name in names:
        if is_graph_file(name):
            raise TrainwattError(f"cannot run the stored graph {name!r}; give a network or package.module:callable")
        if ":" not in name:
            check_network(name)
    for one in applied:
        parse(one)
    if Path(path).exists():
        read(path)
    try:
        from workloads.measuring.compared import ComparedCase
        from workloads.measuring.host import this_host
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrainwattError("no PyTorch to measure with; install torch, or give --measurements FILE") from None
    cases = [ComparedCase(name, batch, tuple(applied)) for name in names for batch in batches]
    limit_s = float("inf") if time_limit_s is None else time_limit_s
    with progress_bar("measuring") as progress:
        return measure_cases(path, cases, this_host(threads), repeats, threads, limit_s, progress)
