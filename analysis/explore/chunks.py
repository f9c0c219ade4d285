"""From a space to finished chunks and points: graphs first, then one after another, here or in several processes.

No PyTorch is imported here: what must be traced is traced before, and the processes only load graph files.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore.pricer import Pricer
from analysis.explore.space import Space
from analysis.explore.store import Store
from analysis.source import TraceOptions, graph_from
from simulator.io import save

AHEAD = 4
"""Chunks waiting for each process: enough that none waits for us, few enough that an interruption ends soon."""

Submit = Callable[[Sequence[int]], Callable[[], pa.Table]]
"""Has points priced somewhere, by their numbers, and returns what waits for their table."""


def trace_all(space: Space, store: Store) -> None:
    """Trace and store the step of every source that has no graph file yet. Raises `TrainwattError` where one fails."""
    for number, source in enumerate(space.sources):
        if source.path is None and not store.graph(number).exists():
            save(graph_from(source.name, TraceOptions(**dict(source.options))), store.graph(number))  # type: ignore[arg-type]


@contextlib.contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Let Python look for cycles a hundred times less often: graphs are many objects and hardly a cycle."""
    before = gc.get_threshold()
    gc.set_threshold(100 * before[0], *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def run_here(space: Space, store: Store, numbers: list[int]) -> Iterator[int]:
    """Price chunks one after another in this process, and yield the number of each that is finished."""
    with _seldom_collecting():
        yield from map(Pricer(space, store).run, numbers)


def run_in_processes(space: Space, store: Store, numbers: list[int], workers: int) -> Iterator[int]:
    """Price chunks in so many processes, and yield the number of each that is finished.

    The processes leave Ctrl-C to this one, which then lets them finish the chunks that they are at.
    """
    waiting = iter(numbers)
    with _processes(space, store, workers) as pool:
        running: set[Future[int]] = {pool.submit(_run, number) for number in islice(waiting, AHEAD * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, number) for number in islice(waiting, len(done))}
            for future in done:
                yield future.result()


@contextlib.contextmanager
def points_here(space: Space, store: Store) -> Iterator[Submit]:
    """Price points in this process, when they are waited for."""
    pricer = Pricer(space, store)
    with _seldom_collecting():
        yield lambda numbers: lambda: pricer.points(numbers)


@contextlib.contextmanager
def points_in_processes(space: Space, store: Store, workers: int) -> Iterator[Submit]:
    """Price points in so many processes."""
    with _processes(space, store, workers) as pool:
        yield lambda numbers: pool.submit(_points, numbers).result


@contextlib.contextmanager
def _processes(space: Space, store: Store, workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (space, store))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_pricer: Pricer | None = None


def _begin(space: Space, store: Store) -> None:
    global _pricer  # noqa: PLW0603  # a process prices one space, and what it has loaded stays for the next chunk
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _seldom_collecting().__enter__()  # for as long as the process lives
    _pricer = Pricer(space, store)


def _run(number: int) -> int:
    assert _pricer is not None
    return _pricer.run(number)


def _points(numbers: Sequence[int]) -> pa.Table:
    assert _pricer is not None
    return _pricer.points(numbers)
