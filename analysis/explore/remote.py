"""What runs in a worker of a Dask cluster: a place with the files of a space, and the tasks that price parts of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import distributed
import pyarrow as pa  # type: ignore[import-untyped]
from distributed.diagnostics.plugin import WorkerPlugin

from analysis.explore.parcel import Parcel, fingerprint
from analysis.explore.pricer import Pricer
from simulator.errors import TrainwattError


class Remote(WorkerPlugin):
    """A worker's files and pricer; the scheduler gives one to every worker, those that come later too."""

    def __init__(self, parcel: Parcel, name: str) -> None:
        self.parcel, self.name = parcel, name

    def setup(self, worker: Any) -> None:
        """Unpack the files. Raises `TrainwattError` where this worker would find other numbers than the client."""
        self.folder = Path(worker.local_directory) / self.name
        own = fingerprint()
        for what, wanted in self.parcel.fingerprint.items():
            if own[what] != wanted:
                raise TrainwattError(
                    f"worker {worker.address} has {what} {own[what]}, this side {wanted}; install the same on both"
                )
        self.pricer = Pricer(*self.parcel.unpacked(self.folder))
        self.turn = threading.Lock()  # the tasks of a worker with several threads take turns

    def teardown(self, worker: Any) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def chunk(name: str, number: int) -> pa.Table:
    """Return the points of a chunk; a task of a worker that has the `Remote` of this name."""
    place = _here(name)
    with place.turn:
        return place.pricer.chunk(number)


def points(name: str, numbers: Sequence[int]) -> pa.Table:
    """Return points by their numbers; a task as `chunk`."""
    place = _here(name)
    with place.turn:
        return place.pricer.points(numbers)


def _here(name: str) -> Remote:
    found = distributed.get_worker().plugins[name]
    assert isinstance(found, Remote)
    return found
