"""Pricing on a Dask cluster: the space travels to the workers with the contents of its files, tables come back.

Workers need trainwatt, but no PyTorch and no folder in common with this side: results are stored here, whole, as they
come, so a chunk is there once however many workers died over it. The extra `trainwatt[distributed]` brings Dask.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any

import distributed
import pyarrow as pa  # type: ignore[import-untyped]

from analysis.explore import remote
from analysis.explore.chunks import AHEAD, Submit
from analysis.explore.parcel import packed
from analysis.explore.space import Space
from analysis.explore.store import Store
from simulator.errors import TrainwattError, first_line

_CONNECT_S, _WORKERS_S, _LOST_S = 5, 30, 120
"""How long to wait for the scheduler, for its first worker, and for another worker once all are gone."""

_ADDRESS = re.compile(r"(?:tcp|tls)://(.+):(\d+)")

_GLANCE_S = 5
"""How often to look whether there are workers, while nothing is finished."""


class Cluster:
    """The workers of a scheduler, with what they need to price a space."""

    def __init__(self, client: Any, space: Space, store: Store) -> None:
        self._client, self._space = client, space
        self._address = client.scheduler.address
        self._name = f"trainwatt-{store.digest[:12]}-{uuid.uuid4().hex[:8]}"
        self._plugin = remote.Remote(packed(space, store), self._name)

    def prepare(self) -> None:
        """Give every worker its files. Raises `TrainwattError` where there is none, or one with other code."""
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            raise TrainwattError(
                f"no worker at {self._address} within {_WORKERS_S} s; start some with 'dask worker {self._address}'"
            ) from None
        try:
            self._client.register_plugin(self._plugin, name=self._name)
        except TrainwattError:
            raise
        except Exception as error:  # whatever a worker without our modules raises
            raise TrainwattError(
                f"workers of {self._address} cannot take a space ({first_line(error)}); install trainwatt there"
            ) from None

    def leave(self) -> None:
        """Take from the workers what they were given."""
        with contextlib.suppress(Exception):  # the scheduler may be gone, and then there is nothing to take
            self._client.unregister_worker_plugin(self._name)

    def room(self) -> int:
        """Return how many tasks to have under way."""
        return AHEAD * max(1, int(sum(self._client.nthreads().values())))

    def chunk(self, number: int) -> distributed.Future[Any]:
        """Have a chunk priced."""
        return self._submit(remote.chunk, number)

    def points(self, numbers: Any) -> Callable[[], pa.Table]:
        """Have points priced; return what waits for them. A `chunks.Submit`."""
        future = self._submit(remote.points, list(numbers))

        def result() -> pa.Table:
            self.first([future])
            return self.result(future, int(numbers[0]) // self._space.chunk_points)

        return result

    def first(self, futures: Collection[distributed.Future[Any]]) -> set[distributed.Future[Any]]:
        """Wait until some are done, and return these. Raises `TrainwattError` where nobody is left to do them."""
        seen = time.monotonic()
        while True:
            try:
                finished = distributed.wait(list(futures), timeout=_GLANCE_S, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
                return set(finished.done)
            except TimeoutError:
                if self._client.status != "running":
                    raise self._gone() from None
                seen = time.monotonic() if self._client.nthreads() else seen
                if time.monotonic() - seen > _LOST_S:
                    raise TrainwattError(
                        f"no worker is left at {self._address}; start some, and the same command goes on"
                    ) from None
            except (CancelledError, OSError):
                raise self._gone() from None

    def result(self, future: distributed.Future[Any], number: int) -> pa.Table:
        """Return the table of a finished future about chunk `number`.

        Raises `Lethal` where workers died over it again and again, `TrainwattError` where the scheduler is gone.
        """
        try:
            return future.result()
        except distributed.KilledWorker as error:
            source, technique = divmod(number, len(self._space.techniques))
            what = f"{self._space.sources[source].name} with {self._space.techniques[technique]}"
            raise Lethal(f"{error.allowed_failures + 1} workers died over chunk {number} ({what})") from None
        except (CancelledError, OSError):
            raise self._gone() from None

    def _submit(self, task: Callable[..., pa.Table], what: object) -> distributed.Future[Any]:
        future: distributed.Future[Any] = self._client.submit(task, self._name, what, pure=False)
        return future

    def _gone(self) -> TrainwattError:
        return TrainwattError(f"the scheduler at {self._address} is gone; start it, and the same command goes on")


class Lethal(TrainwattError):
    """Something that no worker survives."""


@contextlib.contextmanager
def cluster(space: Space, store: Store, address: str) -> Iterator[Cluster]:
    """Connect to the scheduler at `address`. Raises `TrainwattError` where nobody answers there."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said in one line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions are compared in Remote
            client: Any = distributed.Client(address, timeout=_CONNECT_S)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise TrainwattError(
            f"no scheduler at {address!r} ({first_line(error)}); start one, 'dask scheduler'"
        ) from None
    try:
        found = Cluster(client, space, store)
        try:
            found.prepare()
            yield found
        finally:
            found.leave()
    finally:
        client.close(timeout=_CONNECT_S)


def reach(address: str) -> None:
    """Raise `TrainwattError` where nobody listens at `address`; the client would try again and again."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise TrainwattError(f"scheduler {address!r}; write an address such as tcp://host:8786")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise TrainwattError(
            f"no scheduler at {address!r} ({first_line(error)}); start one, 'dask scheduler'"
        ) from None


def run_on_cluster(space: Space, store: Store, numbers: list[int], address: str) -> Iterator[int]:
    """Price chunks on a cluster, store them here, and yield the number of each that is finished.

    Raises `TrainwattError` in the end where chunks are left that no worker survived.
    """
    waiting, lethal = iter(numbers), list[Lethal]()
    with cluster(space, store, address) as workers:
        running: dict[distributed.Future[Any], int] = {}
        while True:
            new = islice(waiting, max(0, workers.room() - len(running)))
            running.update({workers.chunk(number): number for number in new})
            if not running:
                break
            for future in workers.first(running):
                number = running.pop(future)
                try:
                    store.write_chunk(number, workers.result(future, number))
                except Lethal as error:
                    lethal.append(error)
                    continue
                yield number
    if lethal:
        names = "; ".join(map(str, lethal))
        raise TrainwattError(
            f"{len(lethal)} chunks are not priced: {names}; see the workers' logs, the same command tries again"
        )


@contextlib.contextmanager
def points_on_cluster(space: Space, store: Store, address: str) -> Iterator[Submit]:
    """Price points on a cluster."""
    with cluster(space, store, address) as workers:
        yield workers.points
