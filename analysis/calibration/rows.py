"""From rows of measurements to what a fit sees: ops as single rows of work, steps as traced graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.calibration.measured import Measured
from analysis.measurements.op_work import work_of_rows
from analysis.measurements.row import Row, read_settings
from analysis.source import TraceOptions, graph_from
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import work_in_step
from simulator.graph import Graph
from simulator.work import Ints, Work

OPS = "ops"
"""What measurements of single ops are called where others have the name of a network."""
AWAY = {"cold": 1.0, "warm": 0.0}
"""Share of the operands that have left all caches, by what a row says of them."""
SMALL_BYTES = 2.0**16
STEP_SETTINGS = ("optimizer", "precision", "train", "apply", "foreach", "channels_last", "bn")


@dataclass(frozen=True)
class Step:
    """A training step that was measured: its graph, and the rows that say so by phase ("": all of it)."""

    graph: Graph
    rows: tuple[Row, ...]


def one_machine(rows: Sequence[Row]) -> str:
    """Return where the rows were measured. Raises `TrainwattError` where that is not one machine in one mode."""
    found = {}
    for row in rows:
        threads = read_settings(row.software, "software").get("threads", "")
        name = row.device + (f" in mode {row.power_mode}" if row.power_mode else "")
        found[(row.device, row.power_mode, threads)] = name + (f" with {threads} threads" if threads else "")
    if not found:
        raise TrainwattError("no rows of measurements; give at least one")
    if len(found) > 1:
        said = "; ".join(list(found.values())[:3])
        raise TrainwattError(
            f"measurements of {len(found)} machines or modes ({said}); choose one with --only KEY=VALUE"
        )
    return next(iter(found.values()))


def chosen(rows: Iterable[Row], only: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows that have each `KEY=VALUE` of `only` as a column, a setting, or in `software`.

    Raises `TrainwattError` for another form, and where no row is left.
    """
    left = tuple(rows)
    for pair in only:
        key, equals, value = pair.partition("=")
        if not equals:
            raise TrainwattError(f"choice {pair!r}; write for example device=NAME or threads=1")
        kept = tuple(row for row in left if _of(row, key) == value)
        if not kept:
            values = ", ".join(sorted({_of(row, key) for row in left} - {""})[:4]) or "none"
            raise TrainwattError(f"no row with {key}={value}; there is {values}")
        left = kept
    return left


def _of(row: Row, key: str) -> str:
    software = read_settings(row.software, "software")
    return str(getattr(row, key, "") or row.settings.get(key, "") or software.get(key, ""))


def measured_ops(rows: Sequence[Row]) -> list[Measured]:
    """Return the single ops among the rows with their times, each a `Measured` of one row.

    Where a row says `operands=cold`, they came from memory; `operands=warm` from the nearest cache that holds them. Of
    ops that touch less than `SMALL_BYTES`, cold rows do not count: what drives their operands out of the caches
    drives out the framework's own code and data too, which a step keeps.
    """
    own = [row for row in rows if row.kind == "op" and row.metric == "latency"]
    if not own:
        return []
    table = work_of_rows(own)
    away = np.array([AWAY.get(row.settings.get("operands", ""), -1.0) for row in own])
    table = replace(table, off_core=away[_by_row(table)], off_chip=away[_by_row(table)])
    found = []
    for i, row in enumerate(own):
        if away[i] == 1.0 and table.traffic_bytes[table.row_of_op[i]] < SMALL_BYTES:
            continue
        work = replace(table, row_of_op=table.row_of_op[i : i + 1], runs=np.ones(1))
        found.append(Measured(work, np.array(row.value), OPS, row.what, label(row)))
    return found


def _by_row(work: Work) -> Ints:
    """Return the op of each row, where every op has one of its own."""
    return np.argsort(work.row_of_op)


def measured_steps(
    rows: Sequence[Row], model: HardwareModel, progress: Callable[[float], None] = lambda share: None
) -> list[Measured]:
    """Return the whole steps among the rows and their phases with their times, as `model` takes work (`in_step`)."""
    found = []
    for step in steps_of(rows, progress):
        for row in step.rows:
            graph = at(step.graph, row)
            work = in_phase(work_in_step(graph, model), graph, row.phase)
            found.append(Measured(work, np.array(row.value), row.what, f"{row.parameters} {row.phase}", label(row)))
    return found


def steps_of(rows: Sequence[Row], progress: Callable[[float], None] = lambda share: None) -> list[Step]:
    """Return the measured steps of a network with some settings, their graphs traced.

    Raises `TrainwattError` for a network that cannot be traced and a setting that no trace knows.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.kind == "step" and row.metric == "latency":
            groups.setdefault((row.what, row.parameters), []).append(row)
    found = []
    for number, ((what, _), own) in enumerate(groups.items()):
        found.append(Step(graph_of(what, own[0]), tuple(own)))
        progress((number + 1) / len(groups))
    return found


def graph_of(what: str, row: Row) -> Graph:
    """Return the step of a network as a row says it was run, at the row's batch size."""
    settings = row.settings
    for key in settings:
        if key not in STEP_SETTINGS:
            raise TrainwattError(
                f"setting {key}={settings[key]} of a measured step; there is {', '.join(STEP_SETTINGS)}"
            )
    options = TraceOptions(
        batch=row.batch,
        optimizer=settings.get("optimizer"),
        precision=settings.get("precision"),
        train=settings.get("train"),
        batch_norm=settings.get("bn"),
        foreach=settings.get("foreach") == "1",
        channels_last=settings.get("channels_last") == "1",
    )
    graph = graph_from(what, options)
    if "apply" in settings:
        from simulator.techniques import apply, parse

        graph = apply(parse(settings["apply"]), graph)
    return graph


def at(graph: Graph, row: Row) -> Graph:
    """Return the step at the batch size of a row."""
    return graph if row.batch is None else graph.rebatch(row.batch)


def in_phase(work: Work, graph: Graph, phase: str) -> Work:
    """Return the work of the ops of one phase; of all with phase ""."""
    if not phase:
        return work
    own = np.array([op.phase == phase for op in graph.ops])
    return replace(work, row_of_op=work.row_of_op[own], runs=work.runs[own])


def label(row: Row) -> str:
    """Return what a row measured, in few words."""
    size = f" batch {row.batch}" if row.batch is not None else ""
    return f"{row.what}{size}{' ' + row.phase if row.phase else ''}"
