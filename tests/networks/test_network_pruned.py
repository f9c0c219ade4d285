"""Our networks against the layer shapes published with measurements on a Jetson TX2 (arXiv 2108.05580)."""

import csv
import gzip
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from workloads.catalog import build

ROOT = Path(__file__).parents[2]
FOLDERS = [
    Path(os.environ.get("TRAINWATT_DATA", ROOT / "data")),
    *(p / "shared/data" for p in (ROOT, ROOT.parent)),
]
LAYERS = next((p for folder in FOLDERS if (p := folder / "tx2/layers.csv.gz").exists()), None)
NAMES = {"squeezenet": "squeezenet1.0"}
LEVELS = range(0, 95, 5)

pytestmark = pytest.mark.skipif(LAYERS is None, reason="the measured data (tx2/layers.csv.gz) is not there")

# Inputs, outputs, kernel, stride and groups of a convolution.
Shape = tuple[int, int, int, int, int]


@cache
def _rows() -> list[dict[str, str]]:
    assert LAYERS is not None
    with gzip.open(LAYERS, "rt", newline="") as file:
        return [row for row in csv.DictReader(file) if row["type"] == "Conv2d"]


def published(network: str, level: int) -> dict[str, Shape]:
    """Return the convolutions of a network at a pruning level by their (underscored) path."""
    columns = ("in_ch", "out_ch", "k", "stride", "groups")
    return {
        row["name"]: tuple(int(float(row[column])) for column in columns)
        for row in _rows()
        if row["network"] == network and row["prune_pct"] == str(level)
    }


def built(name: str, widths: dict[str, int] | None = None) -> dict[str, Shape]:
    """Return the same of our network."""
    with torch.device("meta"):
        net = build(name, widths=widths)
    return {
        path.replace(".", "_"): (
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size[0],
            conv.stride[0],
            conv.groups,
        )
        for path, conv in net.named_modules()
        if isinstance(conv, nn.Conv2d)
    }


@pytest.mark.parametrize("level", LEVELS)
def test_resnet50_can_be_built_at_every_pruning_level(level: int) -> None:
    expected = published("resnet50", level)
    assert len(expected) == 53
    widths = {path.replace("_", "."): shape[1] for path, shape in expected.items()}
    assert built("resnet50", widths) == expected


@pytest.mark.parametrize("network", ["alexnet", "resnet18", "resnet50", "mnasnet", "squeezenet", "googlenet"])
def test_unpruned_networks_have_the_published_convolutions(network: str) -> None:
    assert built(NAMES.get(network, network)) == published(network, 0)


def test_mobilenetv2_has_the_published_convolutions_but_for_one() -> None:
    # Names differ, and the measured network expands by 1 with a 1x1 convolution where the paper and
    # torchvision leave it out.
    expected = list(published("mobilenetv2", 0).values())
    assert expected.pop(1) == (32, 32, 1, 1, 1)
    assert list(built("mobilenetv2").values()) == expected
