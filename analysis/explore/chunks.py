"""From a space to finished chunks: graphs first, then one chunk after another, here or in several processes.

A chunk is one network (with its training options) and one technique setting on all devices at all batch sizes. No
PyTorch is imported here: what must be traced is traced before, and the processes only load graph files.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np

from analysis.explore.grid import parsed
from analysis.explore.pricing import Prices, price
from analysis.explore.rows import PricedRows
from analysis.explore.space import OPTIONS, Space
from analysis.explore.store import Store
from analysis.explore.table import chunk_table
from analysis.source import TraceOptions, graph_from
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import load, save
from simulator.techniques import Technique, apply
from simulator.work import Ints

_AHEAD = 4
"""Chunks waiting for each process: enough that none waits for us, few enough that an interruption ends soon."""

_STEPS_KEPT = 8
"""Steps with techniques applied that are kept for longer compositions which begin with the same."""


def trace_all(space: Space, store: Store) -> None:
    """Trace and store the step of every source that has no graph file yet. Raises `TrainwattError` where one fails."""
    for number, source in enumerate(space.sources):
        if source.path is None and not store.graph(number).exists():
            save(graph_from(source.name, TraceOptions(**dict(source.options))), store.graph(number))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Step:
    """The untreated step of a source, with its prices, which the savings of all its techniques are stated against."""

    graph: Graph
    prices: Prices


class Pricer:
    """Prices chunks of `space` and stores them; keeps the last step, so chunks of one network are best in a row."""

    def __init__(self, space: Space, store: Store) -> None:
        self.space, self.store = space, store
        self._last: tuple[int, _Step] | None = None
        self._steps: dict[tuple[Technique, ...], Graph] = {}

    @cached_property
    def models(self) -> tuple[HardwareModel, ...]:
        return tuple(d.model() for d in self.space.devices)

    @cached_property
    def rows(self) -> PricedRows:
        return PricedRows(self.models)

    @cached_property
    def batches(self) -> Ints:
        return np.array(self.space.batches, dtype=np.int64)

    def run(self, number: int) -> int:
        """Price chunk `number`, store it, and return the number."""
        source, technique = divmod(number, len(self.space.techniques))
        text, step = self.space.techniques[technique], self._step(source)
        techniques = parsed(text)
        prices = step.prices
        if techniques:
            try:
                prices = self._price(self._treated(step.graph, techniques))
            except TrainwattError as error:
                prices = Prices.refused(str(error), len(self.models), len(self.batches))
        texts = {**self._texts(source, step.graph.meta), "technique": text}
        memory = np.array([model.memory_bytes for model in self.models])
        self.store.write_chunk(number, chunk_table(self.space, number, texts, memory, prices, step.prices))
        return number

    def _step(self, source: int) -> _Step:
        if self._last is None or self._last[0] != source:
            graph = load(self.space.sources[source].path or self.store.graph(source))
            if graph.smallest_batch > 1 and 1 not in self.space.batches:
                graph = replace(graph, other=None)  # the form of batch 1, which techniques would be applied to as well
            self._last = source, _Step(graph, self._price(graph))
            self._steps.clear()
        return self._last[1]

    def _treated(self, graph: Graph, techniques: tuple[Technique, ...]) -> Graph:
        """Return the step with techniques applied; settings that begin alike share what their beginning makes."""
        if not techniques:
            return graph
        if techniques not in self._steps:
            found = apply(techniques[-1:], self._treated(graph, techniques[:-1]))
            while len(self._steps) >= _STEPS_KEPT:
                del self._steps[next(iter(self._steps))]
            self._steps[techniques] = found
        return self._steps[techniques]

    def _price(self, graph: Graph) -> Prices:
        return price(graph, self.rows, self.batches, self.space.memory, self.space.dataset_size)

    def _texts(self, source: int, meta: Mapping[str, object]) -> dict[str, str]:
        options = {key: str(meta.get(key, "")) for key in OPTIONS}
        return {"network": self.space.sources[source].name, **options}


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
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (space, store))
    running: set[Future[int]] = set()
    try:
        running = {pool.submit(_run, number) for number in islice(waiting, _AHEAD * workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run, number) for number in islice(waiting, len(done))}
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_pricer: Callable[[int], int] | None = None


def _begin(space: Space, store: Store) -> None:
    global _pricer  # noqa: PLW0603  # a process prices one space, and what it has loaded stays for the next chunk
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _seldom_collecting().__enter__()  # for as long as the process lives
    _pricer = Pricer(space, store).run


def _run(number: int) -> int:
    assert _pricer is not None
    return _pricer(number)
