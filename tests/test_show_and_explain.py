"""The roofline of a device and the derivation of a price, as the command shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis import roofs
from analysis.cli import cli
from hwmodels.device import device, devices


@pytest.mark.parametrize("name", devices())
def test_every_device_has_a_roofline_to_look_at(name: str) -> None:
    card = device(name).card
    top, speed = roofs.peaks(card), roofs.bandwidths(card)
    assert min(top.values()) > 0
    assert min(speed.values()) > 0
    drawn = roofs.text(card)
    assert len(drawn.splitlines()) == roofs.ROWS + 4
    assert all(dtype in drawn for dtype in top)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_roofline_is_written_as_a_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"roof.{suffix}"
    result = CliRunner().invoke(cli, ["show", "raspberry-pi-4b", "--plot", str(path)])
    assert result.exit_code == 0, result.output
    assert path.stat().st_size > 5000


@pytest.mark.parametrize(("name", "plot"), [("resnet18", "a.png"), ("raspberry-pi-4b", "a.jpg")])
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, name: str, plot: str) -> None:
    result = CliRunner().invoke(cli, ["show", name, "--plot", str(tmp_path / plot)])
    assert result.exit_code == 2
    assert not (tmp_path / plot).exists()


@pytest.mark.parametrize("name", ["raspberry-pi-4b", "jetson-tx2", "zcu102"])
def test_the_derivation_of_a_layer_ends_with_the_latency_of_the_report(tmp_path: Path, name: str) -> None:
    runner = CliRunner()
    stored = str(tmp_path / "net.graph")
    assert runner.invoke(cli, ["trace", "resnet8-cifar", "--batch", "4", "-o", stored]).exit_code == 0
    result = runner.invoke(cli, ["estimate", stored, "-d", name, "--explain", "layer1.0.conv1"])
    assert result.exit_code == 0, result.output
    derived = result.output.partition("how each price comes about")[2]
    assert "layer1.0.conv1, forward: convolution" in derived
    assert len(re.findall(r"^latency ", derived, re.M)) == len(re.findall(r"^bound ", derived, re.M)) >= 3


def test_a_layer_that_does_not_exist_has_no_derivation(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["estimate", "resnet8-cifar", "--batch", "2", "-d", "zcu102", "--explain", "layer9"]
    )
    assert result.exit_code == 2
    assert "no layer 'layer9'" in result.output
