"""Advice: it meets the budgets it says it meets, `trainwatt estimate` reproduces it, and what cannot be met is said."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis.advise.facts import accuracy, facts, published
from analysis.advise.levels import brief, departures, in_order, level
from analysis.advise.settings import ladder, settings
from analysis.cli import cli
from simulator.io import load, save
from simulator.techniques import apply, parse, techniques
from workloads.catalog import cards
from workloads.tracer import trace

DEVICE = "jetson-nano"


@pytest.fixture(scope="session")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("advise") / "r8.graph"
    save(trace("resnet8-cifar", batch=32), path)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def advice(path: Path, *arguments: str, device: str = DEVICE, code: int = 0) -> dict[str, Any]:
    result = run("advise", str(path), "-d", device, "--json", "-", *arguments)
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def estimated(command: str) -> dict[str, Any]:
    """Return what the printed command answers."""
    words = shlex.split(command)
    assert words.pop(0) == "trainwatt"
    result = run(*words, "--json", "-")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.output)["results"]
    return dict(found)


@pytest.mark.parametrize(
    "budget",
    [
        ("--memory", "25MB"),
        ("--energy-per-epoch", "35J"),
        ("--time-per-step", "60ms", "--batch", "32"),
        ("--memory", "30MB", "--energy-per-epoch", "60J"),
        ("--time-per-run", "20s", "--epochs", "3", "--dataset-size", "5000"),
        ("--memory", "25MB", "--objective", "least-energy", "--accept", "partial"),
    ],
    ids=" ".join,
)
def test_estimate_reproduces_the_advice_and_the_budgets_are_met(graph_file: Path, budget: tuple[str, ...]) -> None:
    found = advice(graph_file, *budget)
    (command,) = found["commands"]
    report, chosen = estimated(command), found["configuration"]
    for name in ("latency_s", "energy_j"):
        assert report[name] == pytest.approx(chosen[name], rel=1e-9)
    reserved = report["memory"]["reserved_bytes"]
    assert chosen["needed_bytes"] == (report["memory"]["peak_bytes"] if reserved is None else reserved)
    assert report["run"]["steps"] == chosen["run_steps"]
    values = {
        "memory": chosen["needed_bytes"],
        "energy per epoch": chosen["energy_j"] * chosen["epoch_steps"],
        "time per step": report["latency_s"],
        "time per run": report["run"]["latency_s"],
    }
    for entry in found["budgets"]:
        assert entry["needed"] <= entry["limit"]
        assert entry["needed"] == pytest.approx(values[entry["name"]], rel=1e-9)


def test_budgets_that_plain_training_meets_change_nothing(graph_file: Path) -> None:
    chosen = advice(graph_file, "--memory", "2GB")["configuration"]
    assert (chosen["techniques"], chosen["batch"], chosen["level"]) == ("", 32, "exact")


def test_memory_alone_is_met_by_exact_techniques_first(graph_file: Path) -> None:
    found = advice(graph_file, "--memory", "8MB", device="raspberry-pi-4b")
    chosen = found["configuration"]
    assert chosen["level"] == "exact"
    assert chosen["samples"] == 32
    assert found["steps"][0]["needed_bytes"] > 8e6 >= chosen["needed_bytes"]


def test_recomputation_keeps_the_batch_of_batch_norm(graph_file: Path) -> None:
    start = advice(graph_file, "--memory", "1GB", device="raspberry-pi-4b")["steps"][0]["needed_bytes"]
    found = advice(graph_file, "--memory", f"{0.95 * start}B", device="raspberry-pi-4b")
    assert found["configuration"]["techniques"].startswith("recompute{blocks=")
    assert found["configuration"]["batch_norm_samples"] == 32
    assert found["recomputation"]["proven"] is True
    assert found["recomputation"]["peak_bytes"] == found["configuration"]["needed_bytes"]


def test_steps_begin_with_plain_training_and_end_with_the_choice(graph_file: Path) -> None:
    found = advice(graph_file, "--energy-per-epoch", "60J")
    first, last = found["steps"][0], found["steps"][-1]
    assert (first["techniques"], first["batch"]) == ("", 32)
    assert {**last, "added": ""} == {**found["configuration"], "added": ""}


def test_what_was_passed_over_exceeds_a_budget(graph_file: Path) -> None:
    found = advice(graph_file, "--energy-per-epoch", "60J")
    assert found["passed_over"]
    for passed in found["passed_over"]:
        assert passed["energy_j"] * passed["epoch_steps"] > 60


def test_a_budget_that_cannot_be_met_is_answered_with_the_nearest_and_code_1(graph_file: Path) -> None:
    result = run("advise", str(graph_file), "-d", DEVICE, "--memory", "1kB", "--accept", "exact")
    assert result.exit_code == 1
    assert "no configuration meets all budgets" in result.output
    assert "memory 1 kB: cannot be met; the least is" in result.output
    found = advice(graph_file, "--memory", "1kB", "--accept", "exact", code=1)
    assert found["feasible"] is False
    assert estimated(found["commands"][0])["latency_s"] == pytest.approx(found["configuration"]["latency_s"])


def test_a_level_that_is_not_accepted_is_not_used(graph_file: Path) -> None:
    found = advice(graph_file, "--energy-per-epoch", "60J", "--accept", "exact", code=1)
    assert found["configuration"]["level"] == "exact"


def test_only_the_techniques_that_are_named_are_used(graph_file: Path) -> None:
    found = advice(graph_file, "--energy-per-epoch", "60J", "--techniques", "smd,gradient-filter")
    used = {technique.name for technique in parse(found["configuration"]["techniques"])}
    assert used
    assert used <= {"smd", "gradient-filter"}


def test_accuracy_to_keep_leaves_out_what_is_not_known(graph_file: Path) -> None:
    found = advice(graph_file, "--energy-per-epoch", "60J", "--min-accuracy-kept", "95", code=1)
    assert found["configuration"]["accuracy"]["kept"] == 1


@pytest.mark.parametrize(
    ("objective", "quantity"), [("fastest", "latency_s"), ("least-energy", "energy_j"), ("largest-batch", "batch")]
)
def test_no_configuration_on_the_way_is_better_by_the_objective(
    graph_file: Path, objective: str, quantity: str
) -> None:
    found = advice(graph_file, "--memory", "100MB", "--objective", objective, "--accept", "exact")
    plain = advice(graph_file, "--memory", "100MB")["configuration"]

    def worth(configuration: dict[str, Any]) -> float:
        each = float(configuration[quantity])
        return -each if quantity == "batch" else each * float(configuration["epoch_steps"])

    assert worth(found["configuration"]) <= worth(plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no budget; give --memory"),
        (("--memory", "2kJ"), "'2kJ' is no byte"),
        (("--energy-per-epoch", "-1J"), "a budget of '-1J' for energy per epoch; it is above 0"),
        (("--memory", "1GB", "--techniques", "smt"), "no technique 'smt'; did you mean 'smd'?"),
        (("--memory", "1GB", "--min-accuracy-kept", "120"), "--min-accuracy-kept 120; it is a share in percent"),
        (("--memory", "1GB", "--objective", "best"), "no --objective 'best'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(graph_file: Path, arguments: tuple[str, ...], message: str) -> None:
    runner = CliRunner()
    result = runner.invoke(cli, ["advise", str(graph_file), "-d", DEVICE, *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_tracing_options_are_part_of_the_command_that_reproduces() -> None:
    result = run(
        "advise", "lenet5", "-d", DEVICE, "--power-mode", "5W", "--memory", "1GB", "--optimizer", "adam", "--json", "-"
    )
    (command,) = json.loads(result.output)["commands"]
    for words in ("lenet5 --device jetson-nano --power-mode 5W", "--optimizer adam", "--batch 32"):
        assert words in command
    assert estimated(command)["step"]["optimizer"] == "adam"


# -- parts ---------------------------------------------------------------------------------------------------------


def test_every_fact_is_of_a_network_and_technique_that_exist_and_is_an_accuracy() -> None:
    assert len(facts()) >= 20
    for fact in facts():
        assert fact.network in cards()
        assert departures(fact.techniques)
        assert 0 < fact.accuracy < 100
        assert 0 < fact.plain < 100


def test_published_compositions_apply_to_their_networks() -> None:
    graph = trace("resnet18", batch=2)
    for composition in published("resnet18"):
        apply(composition, graph)


def test_accuracy_is_looked_up_by_what_departs_from_plain_training() -> None:
    known = accuracy("resnet18", parse("sparse-update{last=3},freeze-bn,channels-last,recompute{segments=2}"))
    assert known.lost_points == pytest.approx(73.1 - 70.4)
    assert accuracy("resnet18", parse("channels-last")).kept == 1
    assert not accuracy("resnet18", parse("sparse-update{last=2}")).known
    assert not accuracy("vgg16", parse("sparse-update{last=3}")).known


def test_settings_vary_numbers_around_their_defaults_and_leave_choices_alone() -> None:
    texts = [str(t) for t in settings(techniques()["gradient-filter"], 6)]
    assert texts[0].startswith("gradient-filter{patch=4,last=none")
    assert {t.split(",")[0] for t in texts} == {f"gradient-filter{{patch={n}" for n in (2, 4, 8)}
    assert {t.split(",")[1] for t in texts} == {f"last={n}" for n in ("none", 1, 2, 3, 4, 6)}
    assert all("variant=lean" in t for t in texts)
    assert [t.p for t in settings(techniques()["smd"], 6)] == [0.5, 0.25, 0.75]  # type: ignore[attr-defined]


def test_every_technique_has_a_setting() -> None:
    assert all(settings(cls, 8) for cls in techniques().values())


@pytest.mark.parametrize(("most", "rungs"), [(1, [1]), (7, [7, 6, 4, 3, 2, 1]), (8, [8, 6, 4, 3, 2, 1])])
def test_a_ladder_goes_down_by_halves_and_thirds(most: int, rungs: list[int]) -> None:
    assert ladder(most) == rungs


def test_order_is_scope_then_layers_then_data_then_step() -> None:
    given = parse("recompute,smd,gradient-filter,freeze-bn,sparse-update{last=2},channels-last")
    names = [t.name for t in in_order(given)]
    assert names == ["sparse-update", "freeze-bn", "gradient-filter", "smd", "channels-last", "recompute"]
    assert (level(given), level(parse("recompute")), level(parse("freeze-bn"))) == (2, 0, 1)


def test_brief_text_is_read_back_as_the_same_techniques() -> None:
    given = parse("sparse-update{last=2},gradient-filter{patch=2,layers=a.b|c},smd,recompute{blocks=x.0|x.2-3}")
    assert parse(brief(given)) == given
    assert brief(given).endswith("smd,recompute{blocks=x.0|x.2-3}")


def test_the_share_that_is_trained_falls_with_the_scope(graph_file: Path) -> None:
    assert load(graph_file).meta["network"] == "resnet8-cifar"
    all_of_it = advice(graph_file, "--memory", "2GB")["configuration"]["trained"]
    part = advice(graph_file, "--energy-per-epoch", "60J", "--accept", "partial", "--memory", "2GB")
    assert all_of_it == 1
    assert 0 < part["configuration"]["trained"] < 1
