"""The command `trainwatt explore`, from a space file to a folder of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
import numpy as np

from analysis.explore.chunks import points_here, points_in_processes, run_here, run_in_processes, trace_all
from analysis.explore.grid import short
from analysis.explore.marking import Objective, groups, marks, objectives
from analysis.explore.pareto import Flags
from analysis.explore.progress import shown
from analysis.explore.search.run import Plan, check, search
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
    scheduler: str | None = None,
    plan: Plan | None = None,
    pareto: tuple[str, ...] = (),
    within: tuple[str, ...] | None = None,
    csv: bool = False,
    fresh: bool = False,
) -> str:
    """Explore the space of the file at `path`, leave the results in `folder`, and return what there is to say.

    Finished chunks of an earlier run are not priced again. `pareto` and `within` take the place of what the file says.
    `scheduler` is the address of a Dask cluster, which prices instead of `workers` processes here. With a `plan`, only
    the points that a search proposes are priced.
    """
    space = read_space(path)
    space = replace(space, objectives=pareto or space.objectives, within=space.within if within is None else within)
    wanted, inside = objectives(space.objectives, space.known.columns if space.known else ()), groups(space.within)
    if scheduler is not None:
        cluster_module().reach(scheduler)  # said before networks are traced
    if plan is None:
        store = Store(Path(folder), space.digest(), space.chunks)
    else:
        check(plan, space)
        store = Store(Path(folder), plan.digest(space), plan.batches)
    store.open(fresh=fresh)
    if plan is None:
        price_all(space, store, workers, scheduler)
    else:
        search_all(space, store, plan, wanted, workers, scheduler)
    on_front = marks(store, wanted, inside)
    store.finish(on_front)
    lines = [_text(space, store, wanted, on_front)]
    if csv:
        lines.append(f"{store.write_csv()} holds the same as CSV")
    return "\n".join(lines)


def price_all(space: Space, store: Store, workers: int, scheduler: str | None = None) -> None:
    """Price every chunk that is not finished. Interrupted, it leaves those that are, and says so."""
    done = store.finished()
    numbers = [number for number in range(space.chunks) if number not in done]
    if not numbers:
        return
    with _leaving(store, "chunks"):
        trace_all(space, store)
        if scheduler is not None:
            chunks = cluster_module().run_on_cluster(space, store, numbers, scheduler)
        elif workers > 1 and len(numbers) > 1:
            chunks = run_in_processes(space, store, numbers, workers)
        else:
            chunks = run_here(space, store, numbers)
        with closing(chunks):
            shown((space.chunk_points for _ in chunks), len(numbers) * space.chunk_points)


def search_all(
    space: Space, store: Store, plan: Plan, wanted: tuple[Objective, ...], workers: int, scheduler: str | None = None
) -> None:
    """Price the points that a search proposes, those of finished batches excepted."""
    done = len(store.finished())
    if done == plan.batches:
        return
    with _leaving(store, "batches"):
        trace_all(space, store)
        if scheduler is not None:
            pool = cluster_module().points_on_cluster(space, store, scheduler)
        else:
            pool = points_in_processes(space, store, workers) if workers > 1 else points_here(space, store)
        with pool as submit, closing(search(space, store, plan, wanted, submit)) as batches:
            shown(batches, plan.points - done * plan.batch)


def cluster_module() -> ModuleType:
    """Return the module that prices on a cluster. Raises `TrainwattError` where Dask is not installed."""
    try:
        import analysis.explore.cluster as found
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise TrainwattError(
            "no Dask for --scheduler; pip install 'trainwatt[distributed]', or use --workers"
        ) from None
    return found


@contextmanager
def _leaving(store: Store, what: str) -> Iterator[None]:
    """Leave the manifest right whatever happens; say after Ctrl-C what there is."""
    try:
        yield
    except KeyboardInterrupt:
        said = f"{len(store.finished())} of {store.chunks} {what} are finished, in {store.folder / 'chunks'}"
        click.echo(f"\n{said}; the same command goes on from there", err=True)
        raise
    finally:
        store.record()


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
    searched = "" if at == space.points else f" of a space of {space.points:,}"
    lines = [f"{store.points}: {at:,} points{searched}, {feasible:,} of them feasible"]
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
