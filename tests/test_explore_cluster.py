"""Explorations on a real Dask cluster of this machine: what one process finds, whoever is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.explore import command, parcel
from analysis.explore.marking import objectives
from analysis.explore.search.run import Plan
from analysis.explore.space import Space, space_of
from analysis.explore.store import Store
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import save

distributed = pytest.importorskip("distributed", reason="Dask is the extra trainwatt[distributed]")

from analysis.explore import cluster  # noqa: E402  # it needs distributed
from analysis.explore.remote import Remote  # noqa: E402

PATIENCE_S = 120
TECHNIQUES = ["none", "smd{p={0.1..0.8..0.1}}", "sparse-update{last={1,99}}"]


@pytest.fixture(scope="module")
def document(make_step: Callable[[int], Graph], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("graphs") / "step.graph"
    save(make_step(4), path)
    devices = ["raspberry-pi-4b", {"name": "jetson-nano", "modes": "all"}]
    return {"networks": [str(path)], "batches": [1, 2, 4, 8], "techniques": TECHNIQUES, "devices": devices}


@pytest.fixture(scope="module")
def space(document: dict[str, Any]) -> Space:
    """11 chunks of 12 points; one is refused."""
    return space_of(document)


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A scheduler and two processes that its nannies start again when they die."""
    found = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )
    yield found
    found.close(timeout=30)


def opened(space: Space, folder: Path) -> Store:
    store = Store(folder, space.digest(), space.chunks)
    store.open()
    return store


def rows(store: Store) -> list[dict[str, Any]]:
    return [row for table in store.tables() for row in table.to_pylist()]


@pytest.fixture(scope="module")
def serial(space: Space, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All points, as one process finds them."""
    store = opened(space, tmp_path_factory.mktemp("serial") / "results")
    command.price_all(space, store, 1)
    return rows(store)


def pids(address: str) -> list[int]:
    with distributed.Client(address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def test_a_cluster_finds_what_one_process_does(
    space: Space, serial: list[dict[str, Any]], workers: Any, tmp_path: Path
) -> None:
    store = opened(space, tmp_path / "results")
    command.price_all(space, store, 1, workers.scheduler_address)
    assert rows(store) == serial
    with distributed.Client(workers.scheduler_address, set_as_default=False) as client:
        assert not any(client.run(_has_torch).values())


def _has_torch() -> bool:
    return "torch" in sys.modules


def test_a_search_on_a_cluster_finds_what_one_process_does(space: Space, workers: Any, tmp_path: Path) -> None:
    plan, stores = Plan(32, seed=2), []
    for name, address in (("here", None), ("there", workers.scheduler_address)):
        store = Store(tmp_path / name, plan.digest(space), plan.batches)
        store.open()
        command.search_all(space, store, plan, objectives(space.objectives), 1, address)
        stores.append(rows(store))
    assert stores[0] == stores[1]


def test_a_killed_worker_loses_and_doubles_nothing(
    space: Space, serial: list[dict[str, Any]], workers: Any, tmp_path: Path
) -> None:
    store, victims = opened(space, tmp_path / "results"), pids(workers.scheduler_address)
    running = cluster.run_on_cluster(space, store, list(range(space.chunks)), workers.scheduler_address)
    finished = [next(running)]
    os.kill(victims[0], signal.SIGKILL)
    finished += running
    assert sorted(finished) == list(range(space.chunks))
    assert rows(store) == serial


def test_a_killed_client_goes_on_where_it_was(
    space: Space, document: dict[str, Any], serial: list[dict[str, Any]], workers: Any, tmp_path: Path
) -> None:
    store = opened(space, tmp_path / "results")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from analysis.explore import command; from analysis.explore.space import space_of\n"
        "from analysis.explore.store import Store\n"
        f"space = space_of({document!r}); store = Store(Path({str(store.folder)!r}), space.digest(), space.chunks)\n"
        "write = Store.write_chunk\n"
        "Store.write_chunk = lambda self, number, table: (write(self, number, table), time.sleep(1))\n"
        f"command.price_all(space, store, 1, {workers.scheduler_address!r})\n"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    patience = time.monotonic() + PATIENCE_S
    while len(store.finished()) < 2 and time.monotonic() < patience:
        assert client.poll() is None
        time.sleep(0.05)
    client.kill()
    client.wait()
    before = {number: store.chunk(number).stat().st_mtime_ns for number in store.finished()}
    assert 2 <= len(before) < space.chunks
    command.price_all(space, store, 1, workers.scheduler_address)
    assert all(store.chunk(number).stat().st_mtime_ns == at for number, at in before.items())
    assert rows(store) == serial


class _Poison(distributed.WorkerPlugin):  # type: ignore[misc,name-defined]
    """Ends the process of every worker that prices one chunk."""

    name = "poison"

    def setup(self, worker: Any) -> None:
        from analysis.explore.pricer import Pricer

        chunk = Pricer.chunk

        def deadly(self: Pricer, number: int) -> Any:
            if number == 3:
                os._exit(1)
            return chunk(self, number)

        Pricer.chunk = deadly  # type: ignore[method-assign]


def test_a_chunk_that_ends_every_worker_is_named_and_the_others_are_finished(
    space: Space, serial: list[dict[str, Any]], tmp_path: Path
) -> None:
    import cloudpickle
    import dask

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store = opened(space, tmp_path / "results")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as alone,
    ):
        with distributed.Client(alone, set_as_default=False) as client:
            client.register_plugin(_Poison())
        with pytest.raises(TrainwattError, match=r"2 workers died over chunk 3 "):
            command.price_all(space, store, 1, alone.scheduler_address)
    done = store.finished()
    assert 3 not in done
    command.price_all(space, store, 1)
    assert rows(store) == serial


def test_a_worker_with_other_code_is_told_in_one_line(space: Space, workers: Any, tmp_path: Path) -> None:
    packed = parcel.packed(space, opened(space, tmp_path / "results"))
    other = replace(packed, fingerprint={**packed.fingerprint, "trainwatt": "9.9"})
    with distributed.Client(workers.scheduler_address, set_as_default=False) as client:
        with pytest.raises(TrainwattError, match=r"worker tcp:.* has trainwatt .*, this side 9\.9; install"):
            client.register_plugin(Remote(other, "other"), name="other")
        client.unregister_worker_plugin("other")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:1", "no scheduler at 'tcp://127.0.0.1:1'"),
        ("localhost", "write an address such as"),
        ("tcp://no.such.host.invalid:8786", "no scheduler at"),
    ],
)
def test_an_unreachable_scheduler_is_told_in_one_line_before_anything_is_made(
    address: str, said: str, document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "space.toml"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in {**document, "devices": ["jetson-nano"]}.items()))
    folder = tmp_path / "results"
    with pytest.raises(TrainwattError) as error:
        command.explore(str(path), str(folder), scheduler=address)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_a_parcel_holds_every_file_that_a_space_names(document: dict[str, Any], tmp_path: Path) -> None:
    from hwmodels.device import FOLDER

    board = tmp_path / "my-board.toml"
    board.write_bytes((FOLDER / "raspberry-pi-4b.toml").read_bytes())
    space = space_of({**document, "devices": [str(board)]})
    packed = parcel.packed(space, opened(space, tmp_path / "results"))
    board.unlink()
    moved, _ = packed.unpacked(tmp_path / "there")
    assert moved.devices[0].model().name == "my-board"
    assert Path(str(moved.sources[0].path)).read_bytes() == Path(str(space.sources[0].path)).read_bytes()
