"""The command, as users and their scripts meet it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import hwmodels.device
from analysis.cli import cli
from analysis.source import parse_arguments
from analysis.timeline import to_trace
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.io import load, save

ROOT = Path(__file__).parent.parent


@pytest.fixture
def stored(step: Graph, tmp_path: Path) -> str:
    """The hand-made step as a graph file."""
    path = tmp_path / "step.graph"
    save(step, path)
    return str(path)


@pytest.fixture
def bench(flat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices that can be priced by hand: `flat`, and `tiny` with 10 kB of memory."""
    memory = {"flat": 1e6, "tiny": 1e4}

    def device(name: str, mode: str | None = None) -> Any:
        return replace(flat, name=name, memory_bytes=memory[name], card={"name": name, "mode": mode or "plain"})

    monkeypatch.setattr(hwmodels.device, "device", device)
    monkeypatch.setattr(hwmodels.device, "devices", lambda: list(memory))


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, list(args), prog_name="trainwatt", env=env)


def ok(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return result.stdout


def refused(*args: str) -> str:
    """Return the one line that bad input is answered with."""
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("trainwatt: ")
    return line.removeprefix("trainwatt: ")


def shell(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analysis.cli", *args],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
        **options,
    )


# Estimates


def test_trace_binds_a_stored_graph_to_another_batch(stored: str, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    ok("trace", stored, "--batch", "7", "-o", str(again))
    assert load(again) == load(stored).rebatch(7)


def test_arguments_of_a_model_are_json_or_plain_words() -> None:
    given = ("depths=[1, 2]", "rate=0.5", "on=true", "name=relu", "nothing=none", "size=3")
    expected = {"depths": [1, 2], "rate": 0.5, "on": True, "name": "relu", "nothing": None, "size": 3}
    assert parse_arguments(given) == expected


def test_a_table_of_widths_prunes_a_network_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "widths.json"
    table.write_text('{"features.0": 3}')
    done = run("estimate", "lenet5", "-d", "jetson-nano", "--widths", str(table), "--json", "-")
    # the first convolution, 1 -> 6 channels of 5x5 with bias, loses half of its filters, the next one 3 of 6 inputs
    assert json.loads(done.stdout)["results"][0]["parameters"] == 61_706 - 3 * 26 - 16 * 3 * 25
    table.write_text('{"features.99": 3}')
    assert (
        "no convolution 'features.99'" in run("estimate", "lenet5", "-d", "jetson-nano", "--widths", str(table)).stderr
    )
    table.write_text('{"features.0": "many"}')
    assert "no table of whole numbers" in run("trace", "lenet5", "-o", "x.graph", "--widths", str(table)).stderr
    table.write_text("{")
    assert "are no JSON" in run("estimate", "lenet5", "-d", "jetson-nano", "--widths", str(table)).stderr


def test_the_table_shows_the_step_its_cost_its_peak_and_whether_it_fits(bench: None, stored: str) -> None:
    text = ok("estimate", stored, "--device", "flat")
    for line in (
        "network  conv-relu-linear (2,682 parameters)",
        "step     batch 4, sgd{momentum=0.9}",
        "device   flat, mode plain, 1 MB for training",
        "peak memory 47.3 kB, at op 14 (threshold_backward) of relu in backward",
        "  fits, 953 kB to spare",
    ):
        assert line in text.splitlines()
    for word in ("forward", "backward", "optimizer", "total", "optimizer-state", "made by op 1 (relu)"):
        assert word in text


def test_a_step_that_does_not_fit_says_by_how_much(bench: None, stored: str) -> None:
    assert "does NOT fit, 37.3 kB too much" in ok("estimate", stored, "-d", "tiny")


def test_several_devices_stand_side_by_side_and_each_for_itself(bench: None, stored: str) -> None:
    text = ok("estimate", stored, "-d", "flat", "-d", "tiny", "--power-mode", "slow", "--power-mode", "fast")
    assert "flat slow" in text
    assert "tiny fast" in text
    assert text.count("cost by phase") == 2


def test_only_the_slowest_layers_are_shown_and_the_others_added_up(bench: None, stored: str) -> None:
    assert "3 others" in ok("estimate", stored, "-d", "flat", "--top", "2")
    assert "others" not in ok("estimate", stored, "-d", "flat")


def test_assumptions_are_counted_and_spelt_out_on_demand(bench: None, stored: str) -> None:
    assert "4 assumptions; --verbose lists them" in ok("estimate", stored, "-d", "flat")
    assert "  - power 2 W, whatever runs" in ok("estimate", stored, "-d", "flat", "--verbose")


def test_techniques_show_what_they_change_by_phase(bench: None, stored: str) -> None:
    text = ok("estimate", stored, "-d", "flat", "--apply", "smd{p=0.25}")
    assert "technique  smd{p=0.25,stretch=1.0,dropped_step=false}" in text
    assert "-25.0 %" in text
    assert "peak memory 47.3 kB -> 47.3 kB, 0.0 %" in text


def test_a_stored_graph_takes_another_batch(bench: None, stored: str) -> None:
    document = json.loads(ok("estimate", stored, "-d", "flat", "--batch", "100", "--json", "-"))
    assert document["results"][0]["batch"] == 100
    assert document["results"][0]["peak_bytes"] == 31744 + 388800


def test_json_on_standard_output_is_the_document_and_nothing_else(bench: None, stored: str) -> None:
    document = json.loads(ok("estimate", stored, "-d", "flat", "-d", "tiny", "--apply", "smd", "--json", "-"))
    assert document["schema"] == "trainwatt-estimate"
    assert [r["device"] for r in document["results"]] == ["flat", "tiny"]
    assert [r["fits"] for r in document["results"]] == [True, False]
    first = document["results"][0]
    assert first["technique"] == "smd{p=0.5,stretch=1.0,dropped_step=false}"
    assert first["savings"]["phases"]["backward"]["energy_j"]["saved_fraction"] == pytest.approx(0.5)
    assert sum(p["latency_s"] for p in first["phases"].values()) == pytest.approx(first["latency_s"])
    assert sum(layer["energy_j"] for layer in first["layers"]) == pytest.approx(first["energy_j"])


def test_the_documented_fields_are_the_fields_of_the_document(bench: None, stored: str) -> None:
    documented = (ROOT / "docs" / "report-format.md").read_text(encoding="utf-8")
    result = json.loads(ok("estimate", stored, "-d", "flat", "--json", "-"))["results"][0]
    for name in (*result, *result["memory"], *result["phases"]["forward"], *result["layers"][0]):
        assert f"`{name}`" in documented, name


def test_the_csv_has_a_row_for_each_op(bench: None, stored: str, tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    ok("estimate", stored, "-d", "flat", "--csv", str(path))
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == 30
    assert rows[0]["inputs"] == "4x3x8x8 4x3x3x3 4"
    assert (rows[10]["kind"], float(rows[10]["macs"]), rows[10]["bound"]) == ("mm", 10240, "compute")
    assert float(rows[10]["latency_s"]) == pytest.approx(20.48e-6)


def test_the_timeline_is_in_microseconds_with_phases_as_tracks_and_a_memory_counter(
    bench: None, stored: str, tmp_path: Path
) -> None:
    path = tmp_path / "step.json"
    ok("estimate", stored, "-d", "flat", "--timeline", str(path))
    trace = json.loads(path.read_text())
    events = trace["traceEvents"]
    product = next(e for e in events if e["ph"] == "X" and e["args"]["op"] == 10)
    assert product["dur"] == pytest.approx(20.48)
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert {tracks[e["tid"]] for e in events if e["ph"] == "X"} == {
        "forward", "loss", "backward", "optimizer", "other"
    }  # fmt: skip
    assert max(e["args"]["bytes"] for e in events if e["ph"] == "C") == 47296
    assert trace["otherData"]["merged"] is False


def test_a_timeline_too_large_merges_ops_keeps_their_time_and_says_so(step: Graph, flat: Any) -> None:
    report = estimate(step, flat)
    whole, small = json.loads(to_trace(report)), json.loads(to_trace(report, max_bytes=4000))

    def time(trace: dict[str, Any]) -> float:
        return sum(e["dur"] for e in trace["traceEvents"] if e["ph"] == "X")

    assert small["otherData"]["merged"] is True
    assert small["otherData"]["events"] < whole["otherData"]["events"]
    assert time(small) == pytest.approx(time(whole))
    assert len(json.dumps(small, separators=(",", ":"))) <= 4000


# What there is


def test_everything_there_is_can_be_listed() -> None:
    assert "resnet18" in ok("list", "networks")
    assert "smd{p=0.5," in ok("list", "techniques")
    assert "convolution" in ok("list", "rules").split()
    assert ok("list", "devices").split() == hwmodels.device.devices()


def test_a_stored_graph_can_be_shown(stored: str) -> None:
    text = ok("show", stored)
    assert "peak memory  47.3 kB" in text
    facts = json.loads(ok("show", stored, "--json", "-"))
    assert facts["phases"] == {"forward": 5, "loss": 2, "backward": 10, "optimizer": 12, "other": 1}
    assert facts["storages"]["parameter"] == {"storages": 4, "bytes": 10728}


def test_networks_and_devices_can_be_shown() -> None:
    assert json.loads(ok("show", "resnet18", "--json", "-"))["parameters"] == 11_689_512
    name = hwmodels.device.devices()[0]
    assert name in ok("show", name)
    assert json.loads(ok("show", name, "--json", "-"))["assumptions"]


def test_names_are_completed() -> None:
    def completed(words: str, position: int) -> set[str]:
        env = {"_TRAINWATT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        return {line.partition(",")[2] for line in run(env=env).stdout.splitlines()}

    assert {"resnet18", "resnet50"} <= completed("trainwatt estimate resn", 2)
    assert completed("trainwatt estimate resnet18 --apply sm", 4) == {"smd"}
    device = hwmodels.device.devices()[0]
    assert device in completed(f"trainwatt estimate resnet18 --device {device[:-1]}", 4)


# Tracing


def test_a_traced_network_is_stored_and_priced_like_the_network_itself(bench: None, tmp_path: Path) -> None:
    path = str(tmp_path / "lenet.graph")
    ok("trace", "lenet5", "-o", path, "--batch", "8", "--optimizer", "adam")
    assert load(path).meta["optimizer"] == "adam"
    direct = ok("estimate", "lenet5", "-d", "flat", "--batch", "16", "--optimizer", "adam", "--json", "-")
    assert ok("estimate", path, "-d", "flat", "--batch", "16", "--json", "-") == direct


def test_a_model_of_ones_own_is_called_with_the_arguments_given(
    bench: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_models.py").write_text(
        "from torch import nn\n"
        "def mlp(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    args = (
        "estimate",
        "own_models:mlp",
        "-d",
        "flat",
        "--arg",
        "width=5",
        "--input-shape",
        "3,4,4",
        "--json",
        "-",
    )
    assert json.loads(ok(*args))["results"][0]["parameters"] == 48 * 5 + 5 + 5 * 2 + 2


# Bad input


def test_a_misspelt_command_is_answered_with_the_right_one() -> None:
    assert refused("estmate") == "no command 'estmate'; did you mean 'estimate'?"


def test_a_misspelt_option_is_answered_with_the_right_one() -> None:
    assert refused("estimate", "resnet18", "--devcie", "x") == "no option '--devcie'; did you mean '--device'?"


def test_a_misspelt_choice_is_answered_with_the_right_one() -> None:
    assert refused("estimate", "resnet18", "--precision", "bf61") == "no --precision 'bf61'; did you mean 'bf16'?"
    assert "did you mean 'networks'" in refused("list", "network")


def test_a_misspelt_network_is_answered_with_the_right_one(bench: None) -> None:
    assert "did you mean 'resnet18'" in refused("estimate", "resnet81", "-d", "flat")


def test_a_misspelt_device_is_answered_with_the_right_one(stored: str) -> None:
    name = hwmodels.device.devices()[0]
    assert f"did you mean {name!r}" in refused("estimate", stored, "-d", name + "x")


def test_an_estimate_needs_a_device(stored: str) -> None:
    assert refused("estimate", stored) == "give at least one --device; 'trainwatt list devices' lists them"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--optimizer", "adam"),
        ("--train", "head"),
        ("--bn", "eval"),
        ("--arg", "width=3"),
        ("--input-shape", "3,8,8"),
        ("--classes", "3"),
        ("--channels-last", None),
    ],
)
def test_a_tracing_option_for_a_stored_graph_is_named(bench: None, stored: str, option: str, value: str | None) -> None:
    line = refused("estimate", stored, "-d", "flat", option, *([value] if value else []))
    assert line.startswith(f"{option} with the stored graph")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch", "0"], "'--batch'"),
        (["--batch", "many"], "'--batch'"),
        (["--input-shape", "3,,8"], "input shape '3,,8'; write for example 3,224,224"),
        (["--arg", "width"], "argument 'width'; write --arg key=value"),
        (["--apply", "smd{p=2}"], "smd with p=2.0; p is a probability in [0, 1)"),
        (["--apply", ""], "cannot read ''"),
        (["--json", "-", "--csv", "-"], "'-' for several outputs"),
        (["-d", "tiny", "--csv", "x.csv"], "--csv with 2 devices"),
        (["--power-mode", "a", "--power-mode", "b"], "2 power modes for 1 devices"),
        (["--json", "/no/such/folder/x.json"], "there is no folder '/no/such/folder'"),
        (["--json", "/"], "a folder; give a file"),
    ],
)
def test_bad_input_is_answered_in_one_line(bench: None, stored: str, args: list[str], message: str) -> None:
    assert message in refused("estimate", stored, "-d", "flat", *args)


def test_a_file_that_is_not_there_or_no_graph_is_answered_in_one_line(bench: None, tmp_path: Path) -> None:
    assert "missing.graph" in refused("estimate", str(tmp_path / "missing.graph"), "-d", "flat")
    (tmp_path / "note.json").write_text("{}")
    assert "no graph file" in refused("estimate", str(tmp_path / "note.json"), "-d", "flat")
    assert "no file 'a/b'" in refused("estimate", "a/b", "-d", "flat")
    assert "no file '.'" in refused("estimate", ".", "-d", "flat")


def test_only_devices_have_power_modes(stored: str) -> None:
    assert "only devices have power modes" in refused("show", stored, "--power-mode", "fast")
    assert "only devices have power modes" in refused("show", "resnet18", "--power-mode", "fast")


def test_an_output_that_fails_leaves_the_old_file_whole(
    bench: None, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in refused("estimate", stored, "-d", "flat", "--json", str(path))
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "step.graph"]


def test_an_interrupt_is_one_line_and_130(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hwmodels.device, "device", interrupted)
    result = run("estimate", stored, "-d", "flat")
    assert (result.exit_code, result.stderr) == (130, "trainwatt: interrupted\n")


def test_a_defect_of_ours_keeps_its_traceback(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hwmodels.device, "device", broken)
    assert isinstance(run("estimate", stored, "-d", "flat").exception, ZeroDivisionError)


# As a process


def test_bad_input_exits_with_two_and_one_line() -> None:
    done = shell("estimate", "nosuchnet", "-d", "nosuchdevice")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "analysis.cli", "list", "networks"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


IMPORTS = """
import sys
from analysis.cli import main
sys.argv = ["trainwatt", *{args!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = set(sys.modules) & {heavy!r}
sys.exit("imported: " + ", ".join(sorted(heavy)) if heavy else 0)
"""


@pytest.mark.parametrize(
    ("args", "heavy"),
    [
        (["--help"], {"torch", "pandas", "matplotlib", "numpy", "networkx"}),
        (["list", "networks"], {"torch", "pandas", "matplotlib", "numpy", "networkx"}),
        (["list", "techniques"], {"torch", "pandas", "matplotlib", "networkx"}),
        (["list", "devices"], {"torch", "pandas", "matplotlib", "networkx"}),
        (["estimate", "GRAPH", "-d", "DEVICE", "--apply", "smd"], {"torch", "pandas", "matplotlib"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_quick_commands_import_nothing_heavy(stored: str, args: list[str], heavy: set[str]) -> None:
    names = {"GRAPH": stored, "DEVICE": hwmodels.device.devices()[0]}
    script = IMPORTS.format(args=[names.get(arg, arg) for arg in args], heavy=heavy)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
