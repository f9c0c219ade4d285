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
from analysis.measurements.observing import Observer, observer
from analysis.measurements.row import Row, settings_text
from analysis.output import check_writable, progress_bar
from analysis.output import write as write_text
from analysis.source import check_network, is_graph_file
from simulator.errors import TrainwattError

if TYPE_CHECKING:
    from workloads.measuring.case import Case, Host, Value

SOURCE = "trainwatt measure"
FLUSH_SHARE = 0.05
"""Of the time, at most so much is spent on writing the file."""


@dataclass(frozen=True)
class Outcome:
    """How many cases were measured, had been before, did not fit into memory, are left for another time, and are ops
    that this PyTorch does not have."""

    measured: int
    skipped: int
    too_large: int
    left: int
    unavailable: int = 0


def emit_and_report(script: str, path: str | None) -> None:
    """Write the script that measures on a board. Raises `TrainwattError` where that fails or a `path` is given too."""
    from workloads.measuring.emit import script_source

    if path is not None:
        raise TrainwattError("-o with --emit-script; the script itself takes -o, on the board")
    write_text(script, script_source())
    if script != "-":
        click.echo(f"{script}: copy it to the board and run 'python3 {Path(script).name} --help' there")


def measure_and_report(
    path: str | None,
    *,
    ops: bool,
    steps: str | None,
    batches: str,
    repeats: int,
    threads: int,
    time_limit_s: float | None,
    device: str,
    power_mode: str,
    power: str,
) -> None:
    """Measure what is not in the file yet, add it, and say how much that was. Raises `TrainwattError` for bad input."""
    if not (ops or steps):
        raise TrainwattError("nothing to measure; give --ops, --steps NETWORKS, or both")
    if path is None:
        raise TrainwattError("no file to add rows to; give -o FILE")
    if path == "-":
        raise TrainwattError("cannot measure to standard output; give -o FILE, to which rows are added as they come")
    check_writable(path)
    networks = [name.strip() for name in steps.split(",")] if steps else []
    for name in networks:
        if is_graph_file(name):
            raise TrainwattError(f"cannot run the stored graph {name!r}; give a network or package.module:callable")
        if ":" not in name:
            check_network(name)
    sizes = batch_sizes(batches)
    if Path(path).exists():
        read(path)  # before the work: what is refused now would be refused at the first row
    try:
        from workloads.measuring.allocator import keep_freed_memory
        from workloads.measuring.host import this_host
        from workloads.measuring.ops import op_cases
        from workloads.measuring.steps import StepCase
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise TrainwattError("no PyTorch to measure with; install torch") from None
    keep_freed_memory()
    host = this_host(threads, device, power_mode)
    with observer(power, click.echo) as watched:
        window_s = watched.window_s
        cases: list[Case] = [*(op_cases(window_s) if ops else ())]
        cases += [StepCase(name, batch, window_s=window_s) for name in networks for batch in sizes]
        with progress_bar("measuring") as progress:
            outcome = measure_cases(
                path, cases, host, repeats, threads, time_limit_s or float("inf"), progress, watched
            )
    click.echo(_text(path, outcome))


def measure_cases(
    path: str,
    cases: Sequence[Case],
    host: Host,
    repeats: int,
    threads: int,
    time_limit_s: float = float("inf"),
    progress: Callable[[float], None] = lambda share: None,
    watched: Observer | None = None,
) -> Outcome:
    """Measure the cases that `path` has no values of, each added to the file when it is known, or a few together.

    None is begun after `time_limit_s`, and what takes much longer is left. One that does not fit into memory gets a
    row that says so. `watched` observes each. Raises `TrainwattError` where the file cannot be read or written.
    """
    from workloads.measuring.board.calls import Unavailable

    deadline_s = time.monotonic() + time_limit_s
    known = {row.setup for row in read(path)} if Path(path).exists() else set()
    measured = skipped = too_large = unavailable = 0
    with _Adding(path) as adding:
        for number, case in enumerate(cases):
            setup = row_of(case, host, _too_large(case)).setup
            if setup in known:
                skipped += 1
            elif time.monotonic() >= deadline_s:
                continue  # those that follow may have been measured before
            else:
                try:
                    adding.add(_rows(case, host, repeats, threads, deadline_s, watched))
                    measured += 1
                except TimeoutError:
                    continue
                except Unavailable:
                    unavailable += 1
                    continue
                except MemoryError:
                    adding.add([row_of(case, host, _too_large(case))])
                    too_large += 1
                known.add(setup)
            progress((number + 1) / len(cases))
    left = len(cases) - measured - skipped - too_large - unavailable
    return Outcome(measured, skipped, too_large, left, unavailable)


def _rows(
    case: Case, host: Host, repeats: int, threads: int, deadline_s: float, watched: Observer | None
) -> Sequence[Row]:
    """Measure a case and return its rows, with what was observed."""
    if watched is None:
        return [row_of(case, host, value) for value in case.measure(repeats, threads, deadline_s)]
    with watched.watching(case) as observed:
        values = case.measure(repeats, threads, deadline_s)
    return watched.with_energy([row_of(case, host, value) for value in (*values, *observed)])


class _Adding:
    """Adds rows to a file: at once where that is quick, else several together, and all when the block ends."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: list[Row] = []
        self._next_s = 0.0

    def __enter__(self) -> _Adding:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        if time.monotonic() >= self._next_s:
            self._write()

    def _write(self) -> None:
        if self._rows:
            begun = time.monotonic()
            append(self._path, self._rows)
            self._rows = []
            done = time.monotonic()
            self._next_s = done + (done - begun) / FLUSH_SHARE


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
        source=SOURCE,
        start_s=value.start_s,
        end_s=value.end_s,
    )


def _too_large(case: Case) -> Value:
    from workloads.measuring.case import Value

    return Value(case.kind, case.phase, "out_of_memory", 1.0)


def batch_sizes(text: str) -> list[int]:
    """Read batch sizes such as `1,8,32`. Raises `TrainwattError` for another form."""
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isdigit() and int(piece) for piece in pieces):
        raise TrainwattError(f"batches {text!r}; write for example 1,8,32")
    return [int(piece) for piece in pieces]


def _text(path: str, outcome: Outcome) -> str:
    parts = [f"{outcome.measured} measured"]
    parts += [f"{outcome.skipped} there already"] if outcome.skipped else []
    parts += [f"{outcome.too_large} too large for the memory"] if outcome.too_large else []
    parts += [f"{outcome.unavailable} not in this PyTorch"] if outcome.unavailable else []
    parts += [f"{outcome.left} left when the time was over; run it again to go on"] if outcome.left else []
    return f"{path}: {', '.join(parts)}"
