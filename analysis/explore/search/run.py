"""A search from its plan to stored batches of points.

Two batches are under way at a time: the second is proposed before the answers to the first are there, so workers have
something to do while the next is thought of. Batches are answered in order, whoever prices them and however long that
takes, so the same seed gives the same points with any number of workers, interrupted or not.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from analysis.explore.chunks import Submit
from analysis.explore.marking import Objective
from analysis.explore.search.axes import Axes
from analysis.explore.search.model_sampler import ModelSampler
from analysis.explore.search.observed import observed
from analysis.explore.search.optuna_sampler import OptunaSampler, imported
from analysis.explore.search.sampler import Sampler
from analysis.explore.space import Space
from analysis.explore.store import Store
from simulator.errors import TrainwattError
from simulator.work import Ints

MODEL = "model"

_BATCH, _BATCHES = 16, 32
"""Points of a batch at least, and batches of a search at most, roughly: a larger batch is learned from later."""

_UNDER_WAY = 2


@dataclass(frozen=True)
class Plan:
    """How many points are searched, from which seed, by which sampler (`model`, or one of Optuna's)."""

    points: int
    seed: int = 0
    sampler: str = MODEL

    @property
    def batch(self) -> int:
        """Points of a batch."""
        return max(_BATCH, self.points // _BATCHES)

    @property
    def batches(self) -> int:
        return -(-self.points // self.batch)

    def digest(self, space: Space) -> str:
        """Return a fingerprint of all that decides which points are found."""
        said = [space.digest(), space.objectives, space.within, asdict(self)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def check(plan: Plan, space: Space) -> None:
    """Raise `TrainwattError` where there is nothing to search, or no sampler to do it."""
    if plan.points >= space.points:
        raise TrainwattError(
            f"--search {plan.points} of a space of {space.points} points; leave it out, and all of them are priced"
        )
    if plan.sampler != MODEL:
        imported()


def search(
    space: Space, store: Store, plan: Plan, wanted: tuple[Objective, ...], submit: Submit
) -> Generator[int, None, None]:
    """Price the points that the sampler proposes; store each batch, and yield how many points it has.

    Batches that are stored are not priced again, nor counted.
    """
    sampler, done = _sampler(plan, space, len(wanted)), store.finished()
    under_way: deque[tuple[int, Ints, Callable[[], pa.Table] | None]] = deque()
    asked = 0
    for number in range(plan.batches + _UNDER_WAY):
        if len(under_way) == _UNDER_WAY or (under_way and number >= plan.batches):
            at, points, wait = under_way.popleft()
            table = _stored(store, at) if wait is None else wait()
            if wait is not None:
                store.write_chunk(at, table)
                yield len(points)
            sampler.tell(observed(table, space, wanted))
        if number >= plan.batches:
            continue
        pending = np.concatenate([np.zeros(0, dtype=np.int64), *(points for _, points, _ in under_way)])
        if number in done:
            points = _points(_stored(store, number))
            sampler.recall(number, points, pending)
            under_way.append((number, points, None))
        else:
            points = sampler.ask(number, min(plan.batch, plan.points - asked), pending)
            under_way.append((number, points, _submitted(space, points, submit)))
        asked += len(points)


def _sampler(plan: Plan, space: Space, objectives: int) -> Sampler:
    axes = Axes(space)
    if plan.sampler == MODEL:
        return ModelSampler(axes, plan.seed, max(1, min(max(space.chunks, *axes.shape), plan.points // 4)))
    return OptunaSampler(axes, plan.seed, plan.sampler, objectives)


def _submitted(space: Space, points: Ints, submit: Submit) -> Callable[[], pa.Table]:
    """Have the points of each network and technique setting priced together; return what waits for all, in order."""
    chunk = points // space.chunk_points
    waits = [submit(points[chunk == one].tolist()) for one in np.unique(chunk)]
    order = np.argsort(chunk, kind="stable")

    def wait() -> pa.Table:
        table = pa.concat_tables([one() for one in waits]).unify_dictionaries().combine_chunks()
        return table.take(np.argsort(order))

    return wait


def _stored(store: Store, number: int) -> pa.Table:
    return pq.ParquetFile(store.chunk(number)).read()


def _points(table: pa.Table) -> Ints:
    return np.asarray(table.column("point").to_numpy(), dtype=np.int64)
