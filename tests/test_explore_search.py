"""Searches: points are those of the grid, none twice, the same however often interrupted; fronts that are known."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analysis.cli import cli
from analysis.explore import command
from analysis.explore.chunks import points_here, points_in_processes
from analysis.explore.hypervolume import hypervolume
from analysis.explore.marking import marks, objectives
from analysis.explore.progress import said, shown
from analysis.explore.search.axes import Axes, covering, every, neighbours, size
from analysis.explore.search.gain import best
from analysis.explore.search.observed import observed
from analysis.explore.search.process import fitted, weights
from analysis.explore.search.run import Plan, search
from analysis.explore.space import Space, space_of
from analysis.explore.store import Store
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.io import save

TECHNIQUES = ["none", "smd{p={0.1..0.8..0.1}}", "sparse-update{last={1,99}}"]


@pytest.fixture(scope="module")
def graph_file(make_step: Callable[[int], Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "step.graph"
    save(make_step(4), path)
    return path


@pytest.fixture(scope="module")
def space(graph_file: Path) -> Space:
    """11 settings x 3 devices x 6 batch sizes; one setting is refused."""
    return space_of(
        {
            "networks": [str(graph_file)],
            "batches": [1, 2, 4, 8, 16, 32],
            "techniques": TECHNIQUES,
            "devices": ["raspberry-pi-4b", {"name": "jetson-nano", "modes": "all"}],
            "dataset_size": 1000,
            "memory": "tensors",
            "limits": {"latency_s": "4.5 ms"},
            "pareto": {"objectives": ["epoch_latency_s", "peak_bytes"]},
        }
    )


@pytest.fixture(scope="module")
def grid(space: Space, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Every point by its number."""
    store = Store(tmp_path_factory.mktemp("grid") / "results", space.digest(), space.chunks)
    store.open()
    command.price_all(space, store, 1)
    return {row["point"]: row for table in store.tables() for row in table.to_pylist()}


def opened(space: Space, plan: Plan, folder: Path) -> Store:
    store = Store(folder, plan.digest(space), plan.batches)
    store.open()
    return store


def found(space: Space, plan: Plan, folder: Path, stop: int | None = None) -> list[dict[str, Any]]:
    """Search, or go on, for `stop` batches at most; return the rows of all that are finished."""
    store = opened(space, plan, folder)
    with points_here(space, store) as submit:
        list(islice(search(space, store, plan, objectives(space.objectives), submit), stop))
    return [row for table in store.tables() for row in table.to_pylist()]


def close(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal but for the order in which numbers were added."""
    return row.keys() == other.keys() and all(
        row[key] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value)
        for key, value in other.items()
    )


def test_a_searched_point_is_that_point_of_the_grid(space: Space, grid: dict[int, Any], tmp_path: Path) -> None:
    rows = found(space, Plan(60, seed=3), tmp_path / "results")
    assert len(rows) == 60 == len({row["point"] for row in rows})
    assert all(close(row, grid[row["point"]]) for row in rows)
    assert any(row["reason"].startswith("refused") for row in rows)
    assert any(row["reason"].startswith("latency_s above") for row in rows)


@pytest.mark.parametrize("sampler", ["model", "tpe", "nsga2"])
def test_an_interrupted_search_finds_what_a_whole_one_does(sampler: str, space: Space, tmp_path: Path) -> None:
    if sampler != "model":
        pytest.importorskip("optuna", reason="samplers of Optuna are an extra")
    plan = Plan(64, seed=1, sampler=sampler)
    whole = found(space, plan, tmp_path / "whole")
    for stop in (1, 2, 1, None):
        parts = found(space, plan, tmp_path / "parts", stop)
    assert parts == whole
    assert len({row["point"] for row in whole}) == 64
    assert {r["point"] for r in found(space, replace(plan, seed=2), tmp_path / "other")} != {r["point"] for r in whole}


def test_processes_find_what_one_does(space: Space, tmp_path: Path) -> None:
    plan = Plan(40)
    store = opened(space, plan, tmp_path / "two")
    with points_in_processes(space, store, 2) as submit:
        list(search(space, store, plan, objectives(space.objectives), submit))
    assert [r for t in store.tables() for r in t.to_pylist()] == found(space, plan, tmp_path / "one")


def test_a_batch_of_which_nothing_is_stored_is_priced_again(space: Space, tmp_path: Path) -> None:
    plan, folder = Plan(64), tmp_path / "results"
    whole = found(space, plan, folder)
    opened(space, plan, folder).chunk(2).unlink()
    assert found(space, plan, folder) == whole


def test_nearly_all_points_can_be_asked_for_and_none_comes_twice(space: Space, tmp_path: Path) -> None:
    small = replace(space, batches=(2, 4), within=("device", "batch"))
    rows = found(small, Plan(small.points - 1), tmp_path / "results")
    assert len({row["point"] for row in rows}) == small.points - 1


def share(space: Space, grid: dict[int, Any], points: set[int]) -> float:
    """The hypervolume of some points over that of all, of logarithms, to the worst feasible point."""
    rows = [row for row in grid.values() if row["feasible"]]
    values = np.log([[row[name] for name in space.objectives] for row in rows])
    reference = values.max(axis=0)
    chosen = np.array([row["point"] in points for row in rows])
    return hypervolume(values[chosen], reference) / hypervolume(values, reference)


def test_a_search_finds_more_of_the_front_than_chance(space: Space, grid: dict[int, Any], tmp_path: Path) -> None:
    searched, drawn = [], []
    for seed in range(3):
        rows = found(space, Plan(48, seed), tmp_path / str(seed))
        searched.append(share(space, grid, {row["point"] for row in rows}))
        drawn.append(share(space, grid, set(np.random.default_rng(seed).choice(space.points, 48, replace=False))))
    assert min(searched) > 0.97
    assert np.mean(searched) > np.mean(drawn)


def test_groups_share_the_points(space: Space, tmp_path: Path) -> None:
    grouped = replace(space, within=("device", "mode"))
    axes = Axes(grouped)
    assert axes.groups == 3
    assert sorted(p for g in range(3) for p in every(axes, axes.group(g))) == list(range(space.points))
    assert all((axes.group_of(every(axes, axes.group(g))) == g).all() for g in range(3))
    rows = found(grouped, Plan(90), tmp_path / "results")
    counts = np.bincount(axes.group_of(np.array([row["point"] for row in rows])))
    assert counts.min() >= 25


def test_points_that_cover_a_space_have_every_setting_in_every_network(space: Space) -> None:
    two = replace(space, sources=(space.sources[0], replace(space.sources[0], name="again")))
    axes = Axes(two)
    levels = axes.levels(covering(axes, 22, np.random.default_rng(0)))
    assert len(np.unique(levels[:, :2], axis=0)) == 22
    assert np.bincount(levels[:, 2]).min() >= 7


def test_neighbours_differ_in_one_thing(space: Space) -> None:
    axes = Axes(space)
    group = axes.group(0)
    near = neighbours(axes, group, np.array([7]))
    assert len(near) == sum(len(allowed) - 1 for allowed in group)
    assert ((axes.levels(near) != axes.levels(np.array([7]))).sum(axis=1) == 1).all()
    assert size(group) == space.points


def test_the_model_goes_through_what_it_knows_and_is_unsure_elsewhere(space: Space) -> None:
    axes, rng = Axes(space), np.random.default_rng(0)
    levels = axes.levels(rng.choice(space.points, 60, replace=False))
    effect = [rng.normal(size=n) for n in axes.shape]
    values = sum(e[levels[:, axis]] for axis, e in enumerate(effect))
    model = fitted(axes, levels[:50], values[:50], weights(axes, levels[:50], values[:50]))
    again, sure = model.predict(levels[:50])
    guess, unsure = model.predict(levels[50:])
    assert np.abs(again - values[:50]).max() < 0.1 * values.std()
    assert unsure.mean() > 3 * sure.mean()
    assert np.abs(guess - values[50:]).mean() < 0.6 * np.abs(values[50:] - values.mean()).mean()


def test_the_largest_gain_is_taken_first_and_leaves_no_gain_to_its_like() -> None:
    known = np.array([[1.0, 4.0], [4.0, 1.0]])
    hoped = np.array([[3.5, 3.5], [2.0, 2.0], [2.01, 2.0], [0.5, 3.9], [5.0, 5.0]])
    assert best(known, hoped, 2, np.random.default_rng(0)).tolist() == [1, 3]
    assert len(best(known, hoped, 9, np.random.default_rng(0))) == 5
    assert len(best(known, hoped[:0], 2, np.random.default_rng(0))) == 0


def test_the_hypervolume_is_that_by_hand() -> None:
    # (1, 3), (2, 2), (3, 1) to (4, 4): three steps of 1 high and 1, 2, 3 wide; a point at the reference adds nothing.
    stairs = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [4.0, 0.0], [np.nan, 0.0]])
    assert hypervolume(stairs, np.array([4.0, 4.0])) == pytest.approx(6.0)
    assert hypervolume(np.array([[0.0, 0.0, 0.0], [-1.0, 0.5, 0.5]]), np.ones(3)) == pytest.approx(1.25)
    with pytest.raises(TrainwattError, match="reference"):
        hypervolume(stairs, np.ones(3))


@given(
    st.integers(1, 4).flatmap(
        lambda k: arrays.arrays(np.int64, st.tuples(st.integers(0, 12), st.just(k)), elements=st.integers(0, 5))
    )
)
def test_the_hypervolume_is_the_number_of_cells_dominated(points: np.ndarray) -> None:
    k = points.shape[1]
    cells = np.stack(np.meshgrid(*[np.arange(5)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    count = (points[None, :, :] <= cells[:, None, :]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points.astype(float), np.full(k, 5.0)) == pytest.approx(count)


def test_more_is_better_where_it_says_so(space: Space, grid: dict[int, Any], tmp_path: Path) -> None:
    aimed = replace(space, objectives=("max:batch", "peak_bytes"))
    rows = found(aimed, Plan(60), tmp_path / "results")
    table = observed(pq.read_table(tmp_path / "results" / "chunks"), aimed, objectives(aimed.objectives))
    assert (table.objectives[:, 0] < 0).all()
    assert (table.feasible == [row["feasible"] for row in rows]).all()


def toml(graph: Path) -> str:
    return f'networks = ["{graph}"]\nbatches = [1, 2, 4]\ntechniques = ["none", "smd"]\ndevices = ["raspberry-pi-4b"]\n'


def test_the_command_searches_marks_the_front_and_says_how_much_it_priced(graph_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(toml(graph_file))
    call = ["explore", str(path), "-o", str(tmp_path / "results"), "--search", "4", "--seed", "5"]
    first = CliRunner().invoke(cli, call)
    assert first.exit_code == 0, first.output
    assert "4 points of a space of 6" in first.output
    assert CliRunner().invoke(cli, call).output == first.output
    whole = pq.read_table(tmp_path / "results" / "points.parquet")
    assert whole.num_rows == 4
    assert "on_front" in whole.column_names


@pytest.mark.parametrize(
    ("extra", "said_"),
    [
        (["--search", "6"], "of a space of 6 points"),
        (["--seed", "1"], "--seed without --search"),
        (["--sampler", "tpe"], "--sampler without --search"),
        (["--search", "3", "--sampler", "tpe2"], "did you mean 'tpe'"),
        (["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "--workers 2 with --scheduler"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    extra: list[str], said_: str, graph_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(toml(graph_file))
    result = CliRunner().invoke(cli, ["explore", str(path), "-o", str(tmp_path / "r"), *extra])
    assert result.exit_code == 2
    assert said_ in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_missing_optuna_is_told_in_one_line(
    graph_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    path = tmp_path / "space.toml"
    path.write_text(toml(graph_file))
    call = ["explore", str(path), "-o", str(tmp_path / "r"), "--search", "3"]
    result = CliRunner().invoke(cli, [*call, "--sampler", "nsga2"])
    assert (result.exit_code, "trainwatt[search]" in result.output) == (2, True)
    assert CliRunner().invoke(cli, call).exit_code == 0, "the default sampler needs no Optuna"


def test_ctrl_c_leaves_finished_batches_readable(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(64)
    store, write = opened(space, plan, tmp_path / "r"), Store.write_chunk

    def interrupted(self: Store, number: int, table: Any) -> None:
        if number == 2:
            raise KeyboardInterrupt
        write(self, number, table)

    monkeypatch.setattr(Store, "write_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.search_all(space, store, plan, objectives(space.objectives), 1)
    assert "2 of 4 batches are finished" in capsys.readouterr().err
    assert pq.read_table(tmp_path / "r" / "chunks").num_rows == 32
    monkeypatch.setattr(Store, "write_chunk", write)
    command.search_all(space, store, plan, objectives(space.objectives), 1)
    store.finish(marks(store, objectives(space.objectives), ()))
    assert pq.read_table(store.points).num_rows == 64


def test_progress_says_how_many_how_fast_and_how_long_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(1500, 4500, 100.0) == "1,500 of 4,500 points, 100/s, 30 s left"
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr("analysis.explore.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown(iter([100, 100, 100]), 500)
    assert "200 of 500 points, 50/s, 6 s left" in capsys.readouterr().err
