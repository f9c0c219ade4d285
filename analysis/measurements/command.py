"""The command `trainwatt measure`, from its options to its output."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analysis.measurements.format import append, read
from analysis.measurements.metrics import METRICS
from analysis.measurements.row import Row, settings_text
from analysis.output import check_writable, progress_bar
from analysis.source import check_network, is_graph_file
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from workloads.measuring.case import Case, Host, Value

SOURCES = {"op": "trainwatt measure, operands warm in cache"}
"""Where a row is from, by its kind; `trainwatt measure` of any other kind."""


@dataclass(frozen=True)
class Outcome:
    """How many cases were measured, had been before, did not fit into memory, and are left for another time."""

    measured: int
    skipped: int
    too_large: int
    left: int


def measure_and_report(
    path: str,
    *,
    ops: bool,
    steps: str | None,
    batches: str,
    repeats: int,
    threads: int,
    time_limit_s: float | None,
    device: str,
    power_mode: str,
) -> None:
    """Measure what is not in the file yet, add it, and say how much that was. Raises `TrainwattError` for bad input."""
    if not (ops or steps):
        raise TrainwattError("nothing to measure; give --ops, --steps NETWORKS, or both")
    if path == "-":
        raise TrainwattError("cannot measure to standard output; give -o FILE, to which rows are added as they come")
    check_writable(path)
    networks = [name.strip() for name in steps.split(",")] if steps else []
    for name in networks:
        if is_graph_file(name):
            raise TrainwattError(f"cannot run the stored graph {name!r}; give a network or package.module:callable")
        if ":" not in name:
            check_network(name)
    sizes = _batches(batches)
    if Path(path).exists():
        read(path)  # before the work: what is refused now would be refused at the first row
    try:
        from workloads.measuring.host import this_host
        from workloads.measuring.ops import op_cases
        from workloads.measuring.steps import StepCase
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrainwattError("no PyTorch to measure with; install torch") from None
    cases: list[Case] = [*(op_cases() if ops else ())]
    cases += [StepCase(name, batch) for name in networks for batch in sizes]
    host = this_host(threads, device, power_mode)
    with progress_bar("measuring") as progress:
        outcome = measure_cases(path, cases, host, repeats, threads, time_limit_s or float("inf"), progress)
    click.echo(_text(path, outcome))


def measure_cases(
    path: str,
    cases: Sequence[Case],
    host: Host,
    repeats: int,
    threads: int,
    time_limit_s: float = float("inf"),
    progress: Callable[[float], None] = lambda share: None,
) -> Outcome:
    """Measure the cases that `path` has no values of, each added to the file as soon as it is known.

    None is begun after `time_limit_s`, and what takes much longer is left. One that does not fit into memory gets a
    row that says so. Raises `TrainwattError` where the file cannot be read or written.
    """
    deadline_s = time.monotonic() + time_limit_s
    known = {row.setup for row in read(path)} if Path(path).exists() else set()
    measured = skipped = too_large = 0
    for number, case in enumerate(cases):
        setup = row_of(case, host, _too_large(case)).setup
        if setup in known:
            skipped += 1
        elif time.monotonic() >= deadline_s:
            continue  # those that follow may have been measured before
        else:
            try:
                values = case.measure(repeats, threads, deadline_s)
                measured += 1
            except TimeoutError:
                continue
            except MemoryError:
                values = (_too_large(case),)
                too_large += 1
            append(path, [row_of(case, host, value) for value in values])
            known.add(setup)
        progress((number + 1) / len(cases))
    return Outcome(measured, skipped, too_large, len(cases) - measured - skipped - too_large)


def row_of(case: Case, host: Host, value: Value) -> Row:
    """Return the row of a value that was measured on `host`."""
    return Row(
        kind=value.kind,
        what=case.what,
        parameters=settings_text(case.parameters),
        batch=case.batch,
        phase=value.phase,
        device=host.device,
        power_mode=host.power_mode,
        clocks=settings_text(host.clocks),
        software=settings_text(host.software),
        metric=value.metric,
        value=value.value,
        unit=METRICS[value.metric].unit,
        spread=value.spread,
        repeats=value.repeats,
        source=SOURCES.get(value.kind, "trainwatt measure"),
    )


def _too_large(case: Case) -> Value:
    from workloads.measuring.case import Value

    return Value(case.kind, case.phase, "out_of_memory", 1.0)


def _batches(text: str) -> list[int]:
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isdigit() and int(piece) for piece in pieces):
        raise TrainwattError(f"batches {text!r}; write for example 1,8,32")
    return [int(piece) for piece in pieces]


def _text(path: str, outcome: Outcome) -> str:
    parts = [f"{outcome.measured} measured"]
    parts += [f"{outcome.skipped} there already"] if outcome.skipped else []
    parts += [f"{outcome.too_large} too large for the memory"] if outcome.too_large else []
    parts += [f"{outcome.left} left when the time was over; run it again to go on"] if outcome.left else []
    return f"{path}: {', '.join(parts)}"
