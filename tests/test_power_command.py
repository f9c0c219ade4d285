"""The command that integrates a power log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.cli import cli

LINE = "RAM 896/7859MB (lfb 26x4MB) GR3D_FREQ 0% GPU@31C VDD_IN {}/2000 VDD_CPU {}/500\n"
LOG = "Tue Jan 26 18:22:31 UTC 2021\n" + LINE.format(2000, 500) + LINE.format(4000, 700)


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "power.log"
    path.write_text(LOG)
    return str(path)


def test_the_command_prints_duration_power_and_energy_of_each_rail(log: str) -> None:
    result = CliRunner().invoke(cli, ["power", log])
    assert result.exit_code == 0
    assert "tegrastats: 2 samples over 1 s; 1 s measured, from 0 to 1 s" in result.output
    assert [line.split() for line in result.output.splitlines() if "VDD_CPU" in line] == [
        ["VDD_CPU", "600", "mW", "600", "mJ"]
    ]
    assert "total: VDD_IN, the board's input" in result.output


def test_the_command_writes_json(log: str) -> None:
    result = CliRunner().invoke(
        cli, ["power", log, "--from", "0.5", "--idle-from", "0", "--idle-to", "0.5", "--rail", "VDD_CPU", "--json", "-"]
    )
    held = json.loads(result.output)
    # VDD_IN: 3 to 4 W in the window (1.75 J in half a second), 2 to 3 W before it (2.5 W).
    assert held["total"] == {
        "mean_w": 3.5, "energy_j": 1.75, "idle_w": 2.5, "above_idle_j": 0.5, "is": "VDD_IN, the board's input",
    }  # fmt: skip
    assert list(held["rails"]) == ["VDD_CPU"]
    assert held["duration_s"] == 0.5


def test_the_command_names_file_and_line_of_a_bad_log(tmp_path: Path) -> None:
    path = tmp_path / "power.log"
    path.write_text(LOG + "RAM 1/2MB GR3D_FREQ 0% VDD_IN 2000/2\n")
    result = CliRunner().invoke(cli, ["power", str(path)])
    assert result.exit_code == 2
    assert "power.log': tegrastats log, line 4: rails differ" in result.output
