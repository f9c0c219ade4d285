"""What a training run costs: epochs, stretched schedules, phases, and the run file that describes them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import hwmodels.device
from analysis.cli import cli
from analysis.runfile import TABLES, read_run
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import save
from simulator.run import Phase, Run, Training, cost, epoch_steps
from simulator.techniques import apply, parse

ROOT = Path(__file__).parent.parent
Make = Callable[[int], Graph]


def phase(graph: Graph, steps: int, once: tuple[Graph, ...] = ()) -> Phase:
    return Phase("some", graph, steps, once)


# Epochs


@given(st.integers(1, 10**6), st.integers(1, 512))
def test_an_epoch_shows_every_sample_and_its_last_batch_counts_as_a_full_one(
    make_step: Make, dataset_size: int, batch: int
) -> None:
    steps = epoch_steps(make_step(batch), dataset_size)
    assert (steps - 1) * batch < dataset_size <= steps * batch


def test_a_step_that_accumulates_takes_as_many_batches_of_an_epoch(step: Graph) -> None:
    # 1001 samples: 251 batches of 4, 84 steps of 3 of them
    assert epoch_steps(step, 1001) == 251
    assert epoch_steps(replace(step, meta={**step.meta, "accumulate": 3}), 1001) == 84


def test_a_run_costs_its_steps_times_one(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    training = Training(report, 30, 1001)
    assert (training.epoch.steps, training.run.steps) == (251, 30 * 251)
    assert training.epoch.energy_j.mean == pytest.approx(251 * report.total.energy_j)
    assert training.run.latency_s.mean == pytest.approx(30 * 251 * report.total.latency_s)
    assert training.run.latency_s.sd == 0
    assert training.run.baseline is None


def test_half_of_a_schedule_stretched_by_a_third_costs_two_thirds_of_plain_training(step: Graph, flat: Any) -> None:
    dropped = apply(parse("smd{p=0.5,stretch=1.3333333333333333}"), step)
    report = replace(estimate(dropped, flat), baseline=estimate(step, flat))
    run = Training(report, 4, 64_000).run  # 16,000 steps an epoch, 64,000 in all; the schedule of E2-Train
    assert run.baseline is not None
    assert (run.steps, run.baseline.steps) == (85_333, 64_000)
    assert run.energy_j.mean / run.baseline.energy_j.mean == pytest.approx(2 / 3, rel=1e-5)


def test_a_run_of_no_epochs_or_no_samples_is_refused(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    with pytest.raises(TrainwattError, match="0 epochs; a run has at least 1"):
        Training(report, 0, 100)
    with pytest.raises(TrainwattError, match="a data set of 0 samples; it has at least 1"):
        Training(report, 1, 0)


# Phases


def test_phases_add_up_and_the_highest_peak_counts(make_step: Make, flat: Any) -> None:
    small, large = make_step(4), make_step(100)
    run = cost(Run((phase(small, 7), phase(large, 3))), flat)
    one, two = estimate(small, flat), estimate(large, flat)
    assert run.steps == 10
    assert run.latency_s.mean == pytest.approx(7 * one.total.latency_s + 3 * two.total.latency_s)
    assert run.peak_bytes == two.memory.peak_bytes
    assert not cost(Run((phase(small, 7), phase(large, 3))), replace(flat, memory_bytes=run.peak_bytes - 1)).fits


def test_what_runs_once_is_paid_once_and_counts_for_the_peak(make_step: Make, flat: Any) -> None:
    run = cost(Run((phase(make_step(4), 7, once=(make_step(50), make_step(2))),)), flat)
    once = [estimate(make_step(batch), flat) for batch in (50, 2)]
    steps = 7 * estimate(make_step(4), flat).total.energy_j
    assert run.energy_j.mean == pytest.approx(steps + sum(report.total.energy_j for report in once))
    assert run.peak_bytes == once[0].memory.peak_bytes
    assert run.steps == 7


def test_a_phase_of_no_steps_and_a_run_of_no_phases_are_refused(step: Graph) -> None:
    with pytest.raises(TrainwattError, match="phase 'some' of 0 steps; a phase has at least 1"):
        phase(step, 0)
    with pytest.raises(TrainwattError, match="a run of no phases"):
        Run(())


# Run files

FILE = """
[run]
dataset_size = 1001

[[phase]]
name = "start-up"
steps = 100
apply = "smd{p=0.25}"

[[phase]]
epochs = 2
batch = 8
once = "scores.graph"
"""


@pytest.fixture
def write(tmp_path: Path, make_step: Make) -> Callable[[str], str]:
    """Writes a run file, beside the stored graph `scores.graph` of batch 2."""
    save(make_step(2), tmp_path / "scores.graph")

    def written(text: str) -> str:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_a_run_file_says_how_many_steps_of_what(write: Callable[[str], str], step: Graph) -> None:
    run, baseline = read_run(write(FILE), step)
    assert [p.name for p in run.phases] == ["start-up", "phase 2"]
    assert [p.steps for p in run.phases] == [100, 2 * 126]
    assert [p.graph.batch for p in run.phases] == [4, 8]
    assert {op.runs for op in run.phases[0].graph.ops} == {0.75}
    assert [graph.batch for graph in run.phases[1].once] == [2]
    assert [p.steps for p in baseline.phases] == [100, 252]
    assert baseline.phases[0].graph is step
    assert not any(p.once for p in baseline.phases)


def test_the_baseline_is_not_stretched(write: Callable[[str], str], step: Graph) -> None:
    run, baseline = read_run(write('[[phase]]\nsteps = 10\napply = "smd{stretch=2}"\n'), step)
    assert (run.phases[0].steps, baseline.phases[0].steps) == (20, 10)


@pytest.mark.parametrize(("length", "steps"), [("steps = 10", (10, 30)), ("epochs = 2", (2 * 84, 2 * 251))])
def test_the_baseline_of_a_step_that_accumulates_sees_as_many_samples(
    write: Callable[[str], str], step: Graph, monkeypatch: pytest.MonkeyPatch, length: str, steps: tuple[int, int]
) -> None:
    thrice = replace(step, meta={**step.meta, "accumulate": 3})
    monkeypatch.setattr("analysis.runfile.apply", lambda techniques, graph: thrice)
    text = f'[run]\ndataset_size = 1001\n[[phase]]\n{length}\napply = "smd"\n'
    assert tuple(run.phases[0].steps for run in read_run(write(text), step)) == steps


def test_a_baseline_of_its_own_takes_the_place_of_the_same_steps(write: Callable[[str], str], step: Graph) -> None:
    _, baseline = read_run(write(FILE + "[baseline]\nepochs = 3\nbatch = 16\n"), step)
    assert [(p.steps, p.graph.batch) for p in baseline.phases] == [(3 * 63, 16)]


def test_an_evaluation_is_the_forward_pass_over_a_data_set_of_its_own(
    write: Callable[[str], str], step: Graph, flat: Any
) -> None:
    text = "[run]\ndataset_size = 1001\n[[phase]]\nforward_only = true\nepochs = 2\ndataset_size = 100\n"
    runs = read_run(write(text), step)
    for run in runs:
        (only,) = run.phases
        assert only.steps == 50
        assert {op.phase for op in only.graph.ops} == {"forward"}
        assert cost(run, flat).energy_j.mean == pytest.approx(50 * estimate(step, flat).phases["forward"].energy_j)
        assert cost(run, flat).peak_bytes < estimate(step, flat).memory.peak_bytes


def test_phases_alike_are_one_graph(write: Callable[[str], str], step: Graph) -> None:
    run, _ = read_run(write(2 * '[[phase]]\nsteps = 1\napply = "smd"\nbatch = 8\n'), step)
    assert run.phases[0].graph is run.phases[1].graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[phase]]\nsteps = 1\nstps = 2", "no key in phase 1 'stps'; did you mean 'steps'?"),
        ("[rum]\nx = 1", "no key in the file 'rum'; did you mean 'run'?"),
        ("[run]\ndatasetsize = 1", "no key in [run] 'datasetsize'; did you mean 'dataset_size'?"),
        ("[[phase]]\nsteps = 1.5", "steps = 1.5 in phase 1; it is a whole number"),
        ("[[phase]]\nsteps = true", "steps = True in phase 1; it is a whole number"),
        ("[[phase]]\nsteps = 0", "steps = 0 in phase 1; it is at least 1"),
        ("[[phase]]\nname = 3\nsteps = 1", "name = 3 in phase 1; it is text"),
        ("[[phase]]\nsteps = 1\nforward_only = 1", "forward_only = 1 in phase 1; it is true or false"),
        ("[[phase]]\nsteps = 1\nonce = 3", "once = 3 in phase 1; it is text or a list of it"),
        ("[[phase]]\nname = 'x'", "phase 'x' has neither steps nor epochs; give one"),
        ("[[phase]]\nsteps = 1\nepochs = 1", "phase 'phase 1' has both steps and epochs; give one"),
        ("[[phase]]\nepochs = 1", "phase 'phase 1' has epochs of no data set; give dataset_size in [run]"),
        ("[[phase]]\nsteps = 1\napply = 'smdd'", "no technique 'smdd'; did you mean 'smd'?"),
        ("[[phase]]\nsteps = 1\nonce = 'filter-score'", "did you mean 'filter-scores'?"),
        ("[[phase]]\nsteps = 1\nonce = ['none.graph']", "no graph file"),
        ("[[phase]]\nsteps = 1\n[baseline]\nsteps = 1\nepochs = 1", "[baseline] has both steps and epochs"),
        ("phase = 3", "phase = 3 in the file; it is a list of tables"),
        ("phase = [3]", "phase 1 is 3; it is a table"),
        ("run = 3", "run = 3 in the file; it is a table"),
        ("", "no phase; a run has at least one [[phase]]"),
        ("[[phase]", "is no TOML"),
    ],
)
def test_a_wrong_run_file_is_answered_in_one_line_that_names_it(
    write: Callable[[str], str], step: Graph, text: str, message: str
) -> None:
    path = write(text)
    with pytest.raises(TrainwattError) as caught:
        read_run(path, step)
    assert str(caught.value).startswith(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_file_that_is_not_there_is_answered_in_one_line(step: Graph) -> None:
    with pytest.raises(TrainwattError, match=r"cannot read run file 'none\.toml'"):
        read_run("none.toml", step)


def test_the_documented_run_file_can_be_read_and_every_key_is_explained(
    write: Callable[[str], str], step: Graph
) -> None:
    text = (ROOT / "docs" / "run-files.md").read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    given = {key for table in tomllib.loads(example)["phase"] for key in table}
    example = example.replace("structured-prune{ratio=0.5}", "smd{p=0.1}")  # nothing to prune in the small step
    assert given == set(TABLES["[[phase]]"])
    for table in TABLES.values():
        for key in table:
            assert f"`{key}`" in text or f"`[{key}]`" in text or f"`[[{key}]]`" in text, key
    run, _ = read_run(write(example), step)
    assert len(run.phases) == len(tomllib.loads(example)["phase"])


# The command


@pytest.fixture
def stored(step: Graph, tmp_path: Path, flat: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hand-made step as a graph file, and `flat` as the one device."""
    monkeypatch.setattr(hwmodels.device, "device", lambda name, mode=None: replace(flat, name=name))
    path = tmp_path / "step.graph"
    save(step, path)
    return str(path)


def ok(*args: str) -> str:
    result = CliRunner().invoke(cli, ["estimate", *args], prog_name="trainwatt")
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args: str) -> str:
    result = CliRunner().invoke(cli, ["estimate", *args], prog_name="trainwatt")
    assert result.exit_code == 2, result.output
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    return line


def test_epochs_add_the_cost_of_one_and_of_all_to_the_estimate(stored: str) -> None:
    args = (stored, "-d", "flat", "--apply", "smd{p=0.5,stretch=1.5}", "--epochs", "4", "--dataset-size", "1001")
    text = ok(*args)
    assert "4 epochs of 1,001 samples, stretched by 1.5" in text
    assert "1,506" in text
    assert "change against the baseline: time -25.0 %, energy -25.0 %, peak memory 0.0 %" in text
    (result,) = json.loads(ok(*args, "--json", "-"))["results"]
    assert result["run"]["epoch"]["steps"] == 251
    assert result["run"]["steps"] == 1506
    assert result["run"]["latency_s"] == pytest.approx(1506 * result["latency_s"])
    assert result["run"]["savings"]["latency_s"]["saved_fraction"] == pytest.approx(0.25)


def test_a_run_file_is_priced_phase_by_phase(write: Callable[[str], str], stored: str, tmp_path: Path) -> None:
    path, out = write(FILE), tmp_path / "run.json"
    text = ok(stored, "-d", "flat", "--run", path, "--json", str(out))
    for words in ("1 start-up", "2 phase 2", "smd{p=0.25", "total", "baseline", "change against the baseline"):
        assert words in text
    document = json.loads(out.read_text())
    assert (document["schema"], document["version"]) == ("trainwatt-run", 1)
    (result,) = document["results"]
    assert sum(p["latency_s"] for p in result["phases"]) == pytest.approx(result["latency_s"])
    assert sum(p["energy_j"] for p in result["phases"]) == pytest.approx(result["energy_j"])
    assert result["peak_bytes"] == max(p["peak_bytes"] for p in result["phases"])
    assert len(result["phases"][1]["once"]) == 1


def test_the_documented_fields_of_a_run_are_those_of_the_document(write: Callable[[str], str], stored: str) -> None:
    documented = (ROOT / "docs" / "report-format.md").read_text(encoding="utf-8")
    (result,) = json.loads(ok(stored, "-d", "flat", "--run", write(FILE), "--json", "-"))["results"]
    args = ("--epochs", "4", "--dataset-size", "1001", "--apply", "smd", "--json", "-")
    (single,) = json.loads(ok(stored, "-d", "flat", *args))["results"]
    names = {*result, *result["phases"][1], *single["run"], *single["spread"], *single["spread"]["latency_s"]}
    for name in names:
        assert f"`{name}`" in documented, name


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--epochs", "3"], "--epochs without --dataset-size; a run takes both"),
        (["--dataset-size", "3"], "--dataset-size without --epochs; a run takes both"),
        (["--epochs", "0", "--dataset-size", "3"], "'--epochs'"),
        (["--run", "FILE", "--apply", "smd"], "--apply with --run"),
        (["--run", "FILE", "--epochs", "3", "--dataset-size", "3"], "--epochs with --run"),
        (["--run", "FILE", "--csv", "-"], "--csv with --run"),
        (["--run", "FILE"], "no phase"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    write: Callable[[str], str], stored: str, args: list[str], message: str
) -> None:
    path = write("")
    assert message in refused(stored, "-d", "flat", *(path if arg == "FILE" else arg for arg in args))
