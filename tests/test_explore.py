"""Explorations: every point is what estimate says, runs continue, bad files are refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from analysis.cli import cli
from analysis.explore import chunks, command
from analysis.explore.chunks import Pricer
from analysis.explore.grid import parsed
from analysis.explore.marking import marks, objectives
from analysis.explore.rows import PricedRows
from analysis.explore.space import Space, read_space, space_of
from analysis.explore.store import Store
from hwmodels.device import device, devices
from hwmodels.fpga import with_design
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import load, save
from simulator.memory import replay
from simulator.run import epoch_steps, presented
from simulator.techniques import apply
from workloads.tracer import trace

CPU, WORKSPACE, GPU, FPGA = "raspberry-pi-4b", "x86-avx2", "jetson-nano", "zcu102"
TECHNIQUES = [
    "none",
    "smd{p=0.25,stretch=1.3}",
    "gradient-filter{patch={2,4},last=2}",
    "instance-filter{keep=0.3}",
    "accumulate{steps=2}",
    "structured-prune{ratio=0.5},smd",
    "sparse-update{last=99}",
]


@pytest.fixture(scope="session")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "r8.graph"
    save(trace("resnet8-cifar", batch=4), path)
    return path


@pytest.fixture
def document(graph_file: Path) -> dict[str, Any]:
    """A space of one stored network on one device of each processor."""
    return {
        "networks": [str(graph_file)],
        "batches": [1, 2, 5, 8],
        "techniques": TECHNIQUES,
        "devices": [CPU, {"name": GPU, "modes": "all"}, {"name": FPGA, "modes": ["100MHz"]}, WORKSPACE],
        "dataset_size": 1001,
    }


def explored(space: Space, folder: Path, workers: int = 1) -> Store:
    store = Store(folder, space.digest(), space.chunks)
    store.open()
    command.price_all(space, store, workers)
    known = space.known.columns if space.known else ()
    store.finish(marks(store, objectives(space.objectives, known), space.within))
    return store


def rows(store: Store) -> list[dict[str, Any]]:
    return pq.read_table(store.points).to_pylist()


def treated(plain: Graph, row: dict[str, Any]) -> tuple[Graph | None, str]:
    """Return the step of a point, or why there is none."""
    try:
        return apply(parsed(row["technique"]), plain).rebatch(row["batch"]), ""
    except TrainwattError as error:
        return None, str(error)


@pytest.mark.parametrize("memory", ["tensors", "kernels", "allocator"])
def test_every_point_is_what_estimate_says(
    memory: str, document: dict[str, Any], graph_file: Path, tmp_path: Path
) -> None:
    space = space_of({**document, "memory": memory})
    plain, refused = load(graph_file), 0
    baselines: dict[Any, Any] = {}
    for row in rows(explored(space, tmp_path / "results")):
        hardware = device(row["device"], row["mode"])
        graph, refusal = treated(plain, row)
        if graph is None:
            assert row["reason"] == f"refused: {refusal}"
            assert row["latency_s"] is None
            assert not row["feasible"]
            refused += 1
            continue
        report, where = estimate(graph, hardware), (row["device"], row["mode"], row["batch"])
        for name in ("latency_s", "energy_j", "macs", "flops", "traffic_bytes"):
            assert row[name] == pytest.approx(getattr(report.total, name), rel=1e-9), (name, row)
        if memory == "tensors":
            assert row["peak_bytes"] == replay(graph.worst()).peak_bytes
        else:
            assert row["peak_bytes"] == report.memory.peak_bytes
        if memory == "allocator":
            assert row["needed_bytes"] == report.needed_bytes
            assert row["fits"] == report.fits
        assert row["memory_bytes"] == hardware.memory_bytes
        steps = presented(graph, epoch_steps(graph, 1001))
        assert row["epoch_steps"] == steps
        assert row["epoch_energy_j"] == pytest.approx(report.total.energy_j * steps, rel=1e-9)
        if row["technique"] == "none":
            baselines[where] = row
        assert row["energy_j_saved"] == pytest.approx(1 - row["energy_j"] / baselines[where]["energy_j"], abs=1e-12)
    assert 0 < refused < space.points / 2


@pytest.mark.parametrize("name", devices())
def test_a_step_costs_the_same_alone_and_after_another(name: str, graph_file: Path) -> None:
    plain, batches, hardware = load(graph_file), np.array([2, 8]), device(name)
    pruned = apply(parsed("structured-prune{ratio=0.5},smd{p=0.25}"), plain)
    priced = PricedRows([hardware])
    priced.totals(plain, batches)
    found = priced.totals(pruned, batches)
    for place, batch in enumerate(batches):
        right = estimate(pruned.rebatch(int(batch)), hardware).total
        assert found["latency_s"][0, place] == pytest.approx(right.latency_s, rel=1e-11)
        assert found["energy_j"][0, place] == pytest.approx(right.energy_j, rel=1e-11)
        assert found["macs"][place] == right.macs


def test_forgetting_priced_rows_changes_nothing(graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, batches = load(graph_file), np.array([2, 8])
    right = PricedRows([device(GPU)]).totals(plain, batches)["latency_s"]
    monkeypatch.setattr("analysis.explore.rows._MOST_ROWS", 10)
    priced = PricedRows([device(GPU)])
    for _ in range(2):
        assert (priced.totals(plain, batches)["latency_s"] == right).all()


def test_two_processes_find_what_one_does(document: dict[str, Any], tmp_path: Path) -> None:
    space = space_of({**document, "techniques": TECHNIQUES[:3], "devices": [CPU, GPU]})
    one, two = explored(space, tmp_path / "one"), explored(space, tmp_path / "two", workers=2)
    assert rows(one) == rows(two)


def test_a_second_run_goes_on_where_the_first_was_interrupted(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, run = space_of({**document, "devices": [CPU]}), Pricer.run
    whole = rows(explored(space, tmp_path / "whole"))
    priced: list[int] = []

    def interrupted(self: Pricer, number: int) -> int:
        if len(priced) == 3:
            raise KeyboardInterrupt
        priced.append(number)
        return run(self, number)

    monkeypatch.setattr(chunks.Pricer, "run", interrupted)
    folder = tmp_path / "results"
    with pytest.raises(KeyboardInterrupt):
        explored(space, folder)
    assert json.loads((folder / "manifest.json").read_text())["finished"] == [0, 1, 2]
    assert pq.read_table(folder / "chunks").num_rows == 3 * space.chunk_points
    assert not (folder / "points.parquet").exists()
    monkeypatch.setattr(chunks.Pricer, "run", lambda self, number: (priced.append(number), run(self, number))[1])
    assert rows(explored(space, folder)) == whole
    assert priced == list(range(space.chunks))


def test_infeasible_points_are_kept_with_their_reasons(document: dict[str, Any], tmp_path: Path) -> None:
    limits = {"latency_s": "20 ms", "peak_bytes": "3 MB"}
    space = space_of({**document, "limits": limits, "pareto": {"objectives": ["energy_j", "max:batch"]}})
    found = rows(explored(space, tmp_path / "results"))
    assert len(found) == space.points
    for row in found:
        if row["latency_s"] is not None:
            over = [
                row["latency_s"] > 0.02 and "latency_s above 0.02",
                row["peak_bytes"] > 3e6 and "peak_bytes above 3e+06",
            ]
            assert row["reason"] == "; ".join(text for text in over if text)
        assert row["feasible"] == (not row["reason"])
        assert row["feasible"] or not row["on_front"]
    feasible = [row for row in found if row["feasible"]]
    for row in feasible:
        beaten = any(
            o["energy_j"] <= row["energy_j"]
            and o["batch"] >= row["batch"]
            and (o["energy_j"] < row["energy_j"] or o["batch"] > row["batch"])
            for o in feasible
        )
        assert row["on_front"] == (not beaten)


def test_training_options_multiply_and_stand_in_the_columns(tmp_path: Path) -> None:
    training = {"optimizer": ["sgd", "adam"], "train": ["all", "last=1"]}
    space = space_of(
        {"networks": ["lenet5"], "batches": [4], "techniques": ["none"], "devices": [CPU], "training": training}
    )
    found = rows(explored(space, tmp_path / "results"))
    assert [(r["optimizer"], r["train"]) for r in found] == [
        *(("sgd", "all"), ("sgd", "last=1"), ("adam", "all"), ("adam", "last=1"))
    ]
    assert found[0]["energy_j"] > found[1]["energy_j"]
    report = estimate(trace("lenet5", batch=4, optimizer="adam", train="last=1"), device(CPU))
    assert found[3]["energy_j"] == pytest.approx(report.total.energy_j, rel=1e-9)


def test_designs_of_a_board_multiply_and_take_what_with_design_says(document: dict[str, Any], tmp_path: Path) -> None:
    board = {"name": FPGA, "modes": ["100MHz"], "design": {"tm": [8, 512], "tn": "8..16..8", "precision": ["int16"]}}
    pareto = {"objectives": ["latency_s", "dsp"]}
    space = space_of({**document, "batches": [4], "techniques": ["none"], "devices": [CPU, board], "pareto": pareto})
    found = rows(explored(space, tmp_path / "results"))
    assert [row["design"] for row in found] == [
        "",
        *(f"tm={tm},tn={tn},precision=int16" for tm in (8, 512) for tn in (8, 16)),
    ]
    assert found[0]["dsp"] is None
    plain = device(FPGA, "100MHz")
    for row, one in zip(found[1:], space.devices[1:], strict=True):
        numbers = {key: value for key, value in one.design if key != "precision"}
        model = with_design(plain, replace(plain.design, precision="int16").changed("a test", **numbers))
        report = estimate(trace("resnet8-cifar", batch=4), model)
        assert row["latency_s"] == pytest.approx(report.total.latency_s, rel=1e-9)
        assert row["dsp"] == model.resources.dsp
        assert row["feasible"] == (not model.missing)
        assert row["reason"] == (f"board lacks {', '.join(model.missing)}" if model.missing else "")
    assert {row["feasible"] for row in found[1:]} == {True, False}
    assert all(row["dsp"] is not None for row in found if row["on_front"])


def test_a_run_is_of_all_epochs_and_may_be_limited(document: dict[str, Any], tmp_path: Path) -> None:
    settings = ["none", "smd{p=0.25,stretch=1.3}"]
    changes = {"techniques": settings, "devices": [CPU], "epochs": 7, "limits": {"run_energy_j": "250 J"}}
    found = rows(explored(space_of({**document, **changes}), tmp_path / "results"))
    for row in found:
        stretch = 1.3 if row["technique"] != "none" else 1.0
        assert row["run_steps"] == round(7 * -(-1001 // row["batch"]) * stretch)
        assert row["run_energy_j"] == pytest.approx(row["energy_j"] * row["run_steps"], rel=1e-12)
        assert row["reason"] == ("run_energy_j above 250" if row["run_energy_j"] > 250 else "")
    assert {row["feasible"] for row in found} == {True, False}


def test_known_accuracy_is_joined_by_inputs_and_may_be_an_objective(document: dict[str, Any], tmp_path: Path) -> None:
    lines = ["technique,batch,top1", "none,1,0.9", "none,8,0.8", '"smd{p=0.25,stretch=1.3}",1,0.7']
    write(tmp_path / "accuracy.csv", "\n".join(lines) + "\n")
    changes = {"techniques": TECHNIQUES[:2], "devices": [CPU, GPU], "accuracy": "accuracy.csv"}
    space = space_of({**document, **changes, "pareto": {"objectives": ["energy_j", "max:top1"]}}, tmp_path)
    for row in rows(explored(space, tmp_path / "results")):
        known = {("none", 1): 0.9, ("none", 8): 0.8, ("smd", 1): 0.7}
        assert row["top1"] == known.get((row["technique"].partition("{")[0], row["batch"]))
        assert row["top1"] is not None or not row["on_front"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch,top1\n1,0.9\n1,0.8\n", "says two things"),
        ("batch,top1\n1,high\n", "'top1' of"),
        ("batch\n1\n", "give inputs of points and numbers"),
        ("batch,energy_j\n1,2.0\n", "points have one of that name"),
        ("technique,top1\nsmdd,0.5\n", "no technique 'smdd'"),
    ],
)
def test_a_bad_table_of_accuracy_is_refused_in_one_line(
    text: str, said: str, document: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path / "accuracy.csv", text)
    with pytest.raises(TrainwattError) as error:
        space_of({**document, "accuracy": "accuracy.csv"}, tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def toml(graph: Path, extra: str = "") -> str:
    return (
        f'networks = ["{graph}"]\nbatches = [2, "4..8..4"]\ntechniques = ["none", "smd{{p={{0.25,0.5}}}}"]\n'
        f'devices = ["{CPU}"]\n{extra}'
    )


def test_the_command_explores_marks_another_front_and_writes_csv(graph_file: Path, tmp_path: Path) -> None:
    path, folder = write(tmp_path / "space.toml", toml(graph_file)), tmp_path / "results"
    first = CliRunner().invoke(cli, ["explore", path, "-o", str(folder)])
    assert first.exit_code == 0, first.output
    assert "9 points, 9 of them feasible" in first.output
    again = CliRunner().invoke(
        cli, ["explore", path, "-o", str(folder), "--pareto", "latency_s", "--within", "batch", "--csv"]
    )
    assert "within each batch: 3 points" in again.output
    text = (folder / "points.csv").read_text().splitlines()
    assert len(text) == 10
    assert sum(line.endswith("true") for line in text) == 3


def test_another_space_does_not_overwrite_results_unless_told_to(graph_file: Path, tmp_path: Path) -> None:
    folder, run = str(tmp_path / "results"), CliRunner().invoke
    assert run(cli, ["explore", write(tmp_path / "a.toml", toml(graph_file)), "-o", folder]).exit_code == 0
    other = write(tmp_path / "b.toml", toml(graph_file, "dataset_size = 100"))
    result = subprocess.run(
        [sys.executable, "-m", "analysis.cli", "explore", other, "-o", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "holds another space" in result.stderr
    assert run(cli, ["explore", other, "-o", folder, "--fresh"]).exit_code == 0
    assert pq.read_table(folder + "/points.parquet")["epoch_energy_j"].null_count == 0


def test_results_are_not_written_into_a_folder_of_something_else(graph_file: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", toml(graph_file))
    with pytest.raises(TrainwattError, match="holds something else"):
        command.explore(path, str(tmp_path))


def test_the_example_is_a_space_and_is_not_written_over_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "space.toml")
    assert CliRunner().invoke(cli, ["explore", "--init", path]).exit_code == 0
    assert read_space(path).points > 1000
    with pytest.raises(TrainwattError, match="exists"):
        command.write_example(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "no key in the file 'colour'"),
        ({"batches": [0]}, "batch 0;"),
        ({"batches": [True]}, "batch True;"),
        ({"batches": []}, "batches = "),
        ({"batches": ["8..x"]}, "batch '8..x'"),
        ({"networks": ["resnet19"]}, "no network 'resnet19'"),
        ({"networks": ["no.graph"]}, "no graph file"),
        ({"networks": "lenet5"}, "networks = 'lenet5'"),
        ({"techniques": ["smd{q=1}"]}, "no parameter of smd 'q'"),
        ({"devices": ["jetson-nan"]}, "no device 'jetson-nan'"),
        ({"devices": [{"name": "zcu102", "modes": ["1MHz"]}]}, "no power mode '1MHz'"),
        ({"devices": [{"name": "zcu102", "mode": "100MHz"}]}, "no key in device 'zcu102' 'mode'"),
        ({"devices": [5]}, "device 5;"),
        ({"dataset_size": 0}, "dataset_size = 0"),
        ({"memory": "all"}, "memory = 'all'"),
        ({"training": {"lr": "1"}}, "no key in [training] 'lr'"),
        ({"training": {"train": [1]}}, "train = [1]"),
        ({"limits": {"latency_s": "5 W"}}, "latency_s in [limits]"),
        ({"limits": {"latency_s": -1}}, "a limit is above 0"),
        ({"limits": {"fits": 1}}, "fits = 1"),
        ({"limits": {"epoch_energy_j": 1}}, "give dataset_size"),
        ({"limits": {"run_energy_j": 1}, "dataset_size": 9}, "give epochs"),
        ({"epochs": 2}, "give dataset_size"),
        ({"accuracy": "no.csv"}, "cannot read"),
        ({"accuracy": 3}, "accuracy = 3"),
        ({"devices": [{"name": CPU, "design": {"tm": 8}}]}, "designs are for FPGA boards"),
        ({"devices": [{"name": FPGA, "design": {"tx": 8}}]}, "no number of a design 'tx'"),
        ({"devices": [{"name": FPGA, "design": {"tm": 1.5}}]}, "a whole number above 0"),
        ({"devices": [{"name": FPGA, "design": {"tm": []}}]}, "a value or a list"),
        ({"devices": [{"name": FPGA, "design": {"precision": "int3"}}]}, "no precision 'int3'"),
        ({"devices": [{"name": FPGA, "design": 4}]}, "design = 4"),
        ({"techniques": [{"name": "smd", "where": "q < 1"}]}, "no parameter in a condition 'q'"),
        ({"limits": []}, "limits = []"),
        ({"pareto": {"objectives": "latency_s"}}, "objectives = 'latency_s'"),
    ],
)
def test_a_bad_space_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    good = {"networks": ["lenet5"], "batches": [1], "techniques": ["none"], "devices": [CPU]}
    with pytest.raises(TrainwattError) as error:
        space_of({**good, **change})
    assert said in str(error.value)
    assert ";" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["networks = [", 'networks = ["lenet5"]', "\x00"])
def test_a_bad_file_is_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "space.toml", text)
    with pytest.raises(TrainwattError, match=r"space\.toml"):
        read_space(path)


@pytest.mark.parametrize("texts", [["latency"], ["max:technique"]])
def test_an_objective_is_a_numeric_column(texts: list[str]) -> None:
    with pytest.raises(TrainwattError, match="no numeric column"):
        objectives(texts)


def test_pricing_stored_graphs_imports_no_torch(graph_file: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "space.toml", toml(graph_file))
    code = (
        "import sys; from analysis.explore.command import explore; "
        f"explore({path!r}, {str(tmp_path / 'results')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_refused_step_names_no_number(make_step: Callable[[int], Any], tmp_path: Path) -> None:
    path = tmp_path / "fixed.graph"
    save(replace(make_step(4), meta={"fixed_batch": "made by hand"}), path)
    space = space_of({"networks": [str(path)], "batches": [4, 8], "techniques": ["none"], "devices": [CPU]})
    four, eight = rows(explored(space, tmp_path / "results"))
    assert four["latency_s"] == pytest.approx(estimate(make_step(4), device(CPU)).total.latency_s, rel=1e-9)
    assert "made by hand" in eight["reason"]
    assert eight["latency_s"] is None
    assert eight["fits"] is None
