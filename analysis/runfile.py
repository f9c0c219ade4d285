"""Run files: a training run as phases, in TOML. docs/run-files.md describes them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from simulator.errors import TrainwattError, unknown
from simulator.graph import Graph
from simulator.rewriting.compose import forward_only
from simulator.run import Phase, Run, epoch_steps, samples
from simulator.techniques import apply, parse

WORDS = {
    int: "a whole number",
    bool: "true or false",
    str: "text",
    dict: "a table",
    list: "a list of tables",
    "texts": "text or a list of it",
}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "the file": {"run": dict, "baseline": dict, "phase": list},
    "[run]": {"dataset_size": int},
    "[baseline]": {"epochs": int, "steps": int, "batch": int},
    "[[phase]]": {
        "name": str,
        "epochs": int,
        "steps": int,
        "batch": int,
        "apply": str,
        "once": "texts",
        "dataset_size": int,
        "forward_only": bool,
    },
}
"""What each table may hold, by name, with its type."""


def _scores(graph: Graph) -> Graph:
    from simulator.rewriting.pruning_cost import scoring_graph

    return scoring_graph(graph)


BUILT_IN: Mapping[str, Callable[[Graph], Graph]] = {"filter-scores": _scores}
"""What `once` may name beside graph files: made from the step without techniques."""


def read_run(path: str, graph: Graph) -> tuple[Run, Run]:
    """Return the run that the file at `path` describes for training steps of `graph`, and the run to compare it with.

    Graph files that it names are relative to its folder. Raises `TrainwattError`, in one line that begins with the
    path, where the file is none or says what cannot be.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainwattError(f"cannot read run file {path!r} ({error.strerror}); give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainwattError(f"{path} is no TOML ({error}); see docs/run-files.md") from None
    try:
        return _run(document, graph, Path(path).parent)
    except TrainwattError as error:
        raise TrainwattError(f"{path}: {error}") from None


def _run(document: Mapping[str, Any], graph: Graph, folder: Path) -> tuple[Run, Run]:
    _check(document, "the file")
    settings, baseline = document.get("run", {}), document.get("baseline")
    _check(settings, "[run]")

    @cache  # phases alike share one graph, which is priced once
    def made(batch: int | None, techniques: str | None = None, forward: bool = False) -> Graph:
        if forward:
            return forward_only(made(batch, techniques))
        if techniques is not None:
            return apply(parse(techniques), made(batch))
        return graph if batch is None else graph.rebatch(batch)

    phases, plain_phases = [], []
    for number, table in enumerate(document.get("phase", []), 1):
        _check(table, "[[phase]]", f"phase {number}")
        name, once = table.get("name", f"phase {number}"), table.get("once", [])
        batch, forward = table.get("batch"), table.get("forward_only", False)
        treated, plain = made(batch, table.get("apply"), forward), made(batch, forward=forward)
        before = tuple(_once(spec, made(batch), folder) for spec in ([once] if isinstance(once, str) else once))
        steps, plain_steps = _steps({**settings, **table}, f"phase {name!r}", treated, plain)
        phases.append(Phase(name, treated, steps, before))
        plain_phases.append(Phase(name, plain, plain_steps))
    if not phases:
        raise TrainwattError("no phase; a run has at least one [[phase]]")
    if baseline is not None:
        _check(baseline, "[baseline]")
        plain = made(baseline.get("batch"))
        steps, _ = _steps({**settings, **baseline}, "[baseline]", plain, plain)
        plain_phases = [Phase("baseline", plain, steps)]
    return Run(tuple(phases)), Run(tuple(plain_phases))


def _check(table: Any, kind: str, where: str = "") -> None:
    """Raise `TrainwattError` where `table` holds a key or a type that `TABLES` does not have for its kind."""
    where, known = where or kind, TABLES[kind]
    if not isinstance(table, dict):
        raise TrainwattError(f"{where} is {table!r}; it is a table")
    for key, value in table.items():
        if key not in known:
            raise unknown(f"key in {where}", key, known)
        wanted = known[key]
        texts = isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
        if not (texts if wanted == "texts" else type(value) is wanted):
            raise TrainwattError(f"{key} = {value!r} in {where}; it is {WORDS[wanted]}")
        if wanted is int and value < 1:
            raise TrainwattError(f"{key} = {value} in {where}; it is at least 1")


def _steps(table: Mapping[str, Any], where: str, graph: Graph, plain: Graph) -> tuple[int, int]:
    """Return the steps of `graph` that a table asks for, and those of `plain` for as many samples."""
    if ("steps" in table) == ("epochs" in table):
        raise TrainwattError(
            f"{where} has {'both steps and' if 'steps' in table else 'neither steps nor'} epochs; give one"
        )
    if "steps" in table:
        steps = int(table["steps"])
        return steps, -(-steps * samples(graph) // samples(plain))
    if "dataset_size" not in table:
        raise TrainwattError(f"{where} has epochs of no data set; give dataset_size in [run]")
    epochs, dataset_size = int(table["epochs"]), int(table["dataset_size"])
    return epochs * epoch_steps(graph, dataset_size), epochs * epoch_steps(plain, dataset_size)


def _once(spec: str, graph: Graph, folder: Path) -> Graph:
    from analysis.source import GRAPH_SUFFIXES
    from simulator.io import load

    if spec in BUILT_IN:
        return BUILT_IN[spec](graph)
    if not spec.endswith(GRAPH_SUFFIXES):
        raise unknown("thing to run once", spec, BUILT_IN, f"give a graph file or {', '.join(BUILT_IN)}")
    return load(folder / spec)
