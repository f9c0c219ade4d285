"""The command `trainwatt explore`, from a space file to a folder of results."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from analysis.explore.chunks import run_here, run_in_processes, trace_all
from analysis.explore.grid import short
from analysis.explore.marking import Objective, groups, marks, objectives
from analysis.explore.pareto import Flags
from analysis.explore.space import Space, read_space
from analysis.explore.store import Store
from analysis.table import table
from simulator.errors import TrainwattError
from simulator.files import write_atomic
from simulator.units import show

EXAMPLE = Path(__file__).with_name("example.toml")

_UNITS = {"s": "s", "j": "J", "bytes": "byte"}
_SHOWN = 10


def write_example(path: str) -> None:
    """Write a space with comments to begin from. Raises `TrainwattError` where there is a file already."""
    if Path(path).exists():
        raise TrainwattError(f"{path} exists; give a new file for the example")
    write_atomic(path, EXAMPLE.read_text(encoding="utf-8"))


def explore(
    path: str,
    folder: str,
    *,
    workers: int = 1,
    pareto: tuple[str, ...] = (),
    within: tuple[str, ...] | None = None,
    csv: bool = False,
    fresh: bool = False,
) -> str:
    """Explore the space of the file at `path`, leave the results in `folder`, and return what there is to say.

    Finished chunks of an earlier run are not priced again. `pareto` and `within` take the place of what the file says.
    """
    space = read_space(path)
    space = replace(space, objectives=pareto or space.objectives, within=space.within if within is None else within)
    wanted, inside = objectives(space.objectives), groups(space.within)
    store = Store(Path(folder), space.digest(), space.chunks)
    store.open(fresh=fresh)
    price_all(space, store, workers)
    on_front = marks(store, wanted, inside)
    store.finish(on_front)
    lines = [_text(space, store, wanted, on_front)]
    if csv:
        lines.append(f"{store.write_csv()} holds the same as CSV")
    return "\n".join(lines)


def price_all(space: Space, store: Store, workers: int) -> None:
    """Price every chunk that is not finished. Interrupted, it leaves those that are, and says so."""
    done = store.finished()
    numbers = [number for number in range(space.chunks) if number not in done]
    if not numbers:
        return
    try:
        trace_all(space, store)
        several = workers > 1 and len(numbers) > 1
        chunks = run_in_processes(space, store, numbers, workers) if several else run_here(space, store, numbers)
        with closing(chunks):  # type: ignore[type-var]  # both are generators
            for _ in _shown(chunks, len(numbers), space.chunk_points):
                pass
    except KeyboardInterrupt:
        said = f"{len(store.finished())} of {space.chunks} chunks are finished, in {store.folder / 'chunks'}"
        click.echo(f"\n{said}; the same command goes on from there", err=True)
        raise
    finally:
        store.record()


def _shown(chunks: Iterator[int], count: int, points: int) -> Iterator[int]:
    """Pass chunks on, and show on a terminal how many points there are, how fast, and how long it takes yet.

    The clock starts at the first finished chunk: processes take seconds to start, and say nothing of the speed.
    """
    terminal, begun = sys.stderr.isatty(), 0.0
    for done, number in enumerate(chunks):
        begun = begun or time.monotonic()
        if terminal and done:
            rate = done * points / (time.monotonic() - begun)
            left = show((count - done - 1) * points / rate, "s")
            said = f"{(done + 1) * points:,} of {count * points:,} points, {rate:,.0f}/s, {left} left"
            click.echo(f"\r\x1b[2K{said} ", nl=False, err=True)
        yield number
    if terminal:
        click.echo("\r\x1b[2K", nl=False, err=True)


def _text(space: Space, store: Store, wanted: tuple[Objective, ...], on_front: Flags) -> str:
    """Return how many points there are of what kind, and the beginning of the front."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    columns = list(dict.fromkeys(["network", "technique", "device", "mode", "batch", *(o.column for o in wanted)]))
    order = [(wanted[0].column, "descending" if wanted[0].most else "ascending")]
    feasible, reasons, best, at = 0, Counter[str](), list[pa.Table](), 0
    for part in store.tables([*columns, "feasible", "reason"]):
        feasible += pc.sum(part["feasible"]).as_py() or 0
        for entry in pc.value_counts(part["reason"].cast(pa.string())).to_pylist():
            reasons["refused" if entry["values"].startswith("refused") else entry["values"]] += entry["counts"]
        places = np.flatnonzero(on_front[at : at + len(part)])
        best.append(part.select(columns).take(places).sort_by(order).slice(0, _SHOWN))
        at += len(part)
    lines = [f"{store.points}: {space.points:,} points, {feasible:,} of them feasible"]
    lines += [f"  {count:,} infeasible: {kind}" for kind, count in sorted(reasons.items()) if kind]
    inside = f" within each {', '.join(space.within)}" if space.within else ""
    lines.append(f"\nfront of {', '.join(map(str, wanted))}{inside}: {int(on_front.sum()):,} points (on_front)")
    rows = pa.concat_tables(best).sort_by(order).slice(0, _SHOWN).to_pylist()
    if rows:
        lines.append(table([tuple(columns), *(tuple(_cell(name, row[name]) for name in columns) for row in rows)]))
    return "\n".join(lines)


def _cell(name: str, value: object) -> str:
    if name == "technique":
        return short(str(value))
    if not isinstance(value, int | float):
        return str(value)
    unit = _UNITS.get(name.rpartition("_")[2])
    return show(value, unit) if unit else f"{value:.4g}" if isinstance(value, float) else str(value)
