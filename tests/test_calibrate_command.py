"""`trainwatt calibrate`: a file of measurements in, a device file out, with its error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analysis.calibration.rows import measured_ops
from analysis.cli import cli
from analysis.measurements.format import write
from analysis.measurements.row import Row
from hwmodels.device import device
from simulator.estimate import estimate
from workloads import trace

FACTOR = 1.6


def op_rows() -> list[Row]:
    """Ops of several kinds and sizes, as a Raspberry Pi would take them that is 1.6 times slower than its model."""
    shapes = [(16, 16, 32), (32, 32, 16), (64, 64, 8), (16, 64, 16), (3, 16, 32)]
    common = {"kind": "op", "device": "Pi", "software": "torch=2.13.0;threads=4", "metric": "latency", "unit": "s"}
    rows = []
    for c, k, h in shapes:
        for batch in (1, 8):
            sizes = f"c={c};k={k};h={h};r=3;stride=1;groups=1"
            for what, phase in (("convolution", "forward"), ("convolution_grad_weight", "backward")):
                rows.append(Row(what=what, parameters=sizes, batch=batch, phase=phase, value=1.0, source="s", **common))
            for what in ("relu", "add", "native_batch_norm"):
                size = f"c={c};h={h}"
                rows.append(
                    Row(what=what, parameters=size, batch=batch, phase="forward", value=1.0, source="s", **common)
                )
    base, random = device("raspberry-pi-4b"), np.random.default_rng(0)
    found = []
    for row, one in zip(rows, measured_ops(rows), strict=True):
        time = float(base.price(one.work).latency_s[one.work.row_of_op[0]])
        found.append(replace(row, value=FACTOR * time * float(np.exp(0.02 * random.standard_normal()))))
    return found


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["calibrate", *arguments])
    return done.exit_code, done.output


def test_a_measured_board_becomes_a_device_that_other_commands_take(tmp_path: Path) -> None:
    table, path, said = tmp_path / "pi.csv", tmp_path / "my-pi.toml", tmp_path / "said.json"
    rows = op_rows()
    write(table, [*rows, replace(rows[0], metric="slowed", unit="1", value=1.3)])
    options = ("--base", "raspberry-pi-4b", "-o", str(path), "--json", str(said), "--plot", str(tmp_path / "p.png"))
    code, output = run(str(table), *options)
    assert code == 0, output
    assert "held up while it measured: 1;" in output
    step = trace("resnet8-cifar", batch=8)
    slower = estimate(step, device(path)).total.latency_s / estimate(step, device("raspberry-pi-4b")).total.latency_s
    assert slower == pytest.approx(FACTOR, rel=0.1)
    report = json.loads(said.read_text())
    assert report["methods"]["ops"]["calibrated"]["mape"] < 0.1 < report["methods"]["ops"]["uncalibrated"]["mape"]
    assert "attention" in report["never_measured"]
    assert "pi.csv" in path.read_text()
    assert (tmp_path / "p.png").stat().st_size > 5000
    shown = CliRunner().invoke(cli, ["estimate", "resnet8-cifar", "-d", str(path)])
    assert shown.exit_code == 0
    assert "interval " in shown.output
    assert "extrapolated" in shown.output  # softmax was never measured


def test_rows_of_two_machines_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    table = tmp_path / "two.csv"
    write(table, [*op_rows(), *(replace(row, device="other board") for row in op_rows())])
    code, output = run(str(table), "--base", "raspberry-pi-4b", "-o", str(tmp_path / "x.toml"))
    assert code == 2
    assert "2 machines" in output
    assert not (tmp_path / "x.toml").exists()
    code, output = run(str(table), "--base", "raspberry-pi-4b", "-o", str(tmp_path / "x.toml"), "--only", "device=Pi")
    assert code == 0, output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--base", "jetson_tx2"), "no device"),
        (("--base", "raspberry-pi-4b", "--only", "threads=9"), "no row with threads=9"),
        (("--base", "raspberry-pi-4b", "--only", "threads"), "write for example"),
        (("--base", "raspberry-pi-4b", "--power-mode", "7W"), "no power mode"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    table = tmp_path / "pi.csv"
    write(table, op_rows())
    code, output = run(str(table), *arguments, "-o", str(tmp_path / "x.toml"))
    assert code == 2
    assert says in output
    assert "Traceback" not in output
    assert not (tmp_path / "x.toml").exists()


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated device; its measurements lie beside it."""
    folder = tmp_path_factory.mktemp("board")
    write(folder / "pi.csv", op_rows())
    code, output = run(str(folder / "pi.csv"), "--base", "raspberry-pi-4b", "-o", str(folder / "my-pi.toml"))
    assert code == 0, output
    return folder / "my-pi.toml"


def test_a_calibrated_device_is_no_base(tmp_path: Path, calibrated: Path) -> None:
    table, path = calibrated.with_name("pi.csv"), calibrated
    code, output = run(str(table), "--base", str(path), "-o", str(tmp_path / "x.toml"))
    assert code == 2
    assert "calibrated already" in output


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[calibration.factors]", "[calibration.factor]", "no field 'factor'"),
        ("all = ", "everything = ", "no class of ops 'everything'"),
        ("coverage = 0.9", "coverage = 9", "coverage is between 0 and 1"),
    ],
)
def test_a_table_of_corrections_that_is_wrong_is_refused(
    tmp_path: Path, calibrated: Path, old: str, new: str, says: str
) -> None:
    text, path = calibrated.read_text(), tmp_path / "wrong.toml"
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = CliRunner().invoke(cli, ["estimate", "resnet8-cifar", "-d", str(path)])
    assert done.exit_code == 2
    assert says in done.output
