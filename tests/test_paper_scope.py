"""Costs as the gradient-filtering paper counts them (Yang et al., CVPR 2023, arXiv:2301.00330)."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

from analysis.claims.yang_counting import tuned_convolutions, yang_flops, yang_memory_bytes
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.techniques import apply, parse
from workloads import trace

TABLES = Path(__file__).parents[2] / "shared" / "reference" / "claims-gradient-filtering.csv"
LAST = {
    "ResNet-18": ("layer4.1.conv2", "layer4.1.conv1", "layer4.0.conv2", "layer4.0.conv1"),
    "ResNet-34": ("layer4.2.conv2", "layer4.2.conv1", "layer4.1.conv2", "layer4.1.conv1"),
    "MobileNetV2": ("features.18.0", "features.17.conv.2", "features.17.conv.1.0", "features.17.conv.0.0"),
}
CLASSES = {"CIFAR10": 10, "CIFAR100": 100, "ImageNet": 1000}


@cache
def step(network: str, classes: int) -> Graph:
    return trace(network.lower().replace("-", ""), batch=2, classes=classes, rebatches=False)


def published(table: str, metric: str) -> list[dict[str, str]]:
    """The rows of a table that give the last 1 to 4 layers of a network in the catalog."""
    if not TABLES.exists():
        pytest.skip(f"the published tables are not here: no {TABLES.name}")
    with TABLES.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["table"] == table and r["metric"] == metric]
    return [
        r
        for r in rows
        if r["network"] in LAST
        and r["layers_tuned"] in "1234"
        and r["patch"] != "TinyTL"
        and "SUSPECT" not in r["source"]
    ]


def arguments(row: dict[str, str]) -> tuple[Graph, int, tuple[str, ...]]:
    graph = step(row["network"], CLASSES[row["dataset"]])
    return graph, int(row["patch"].split()[0]), LAST[row["network"]][: int(row["layers_tuned"])]


@pytest.mark.parametrize(("table", "count"), [("Table 11", 64), ("Table 2", 11)])
def test_the_formulas_give_the_published_flops(table: str, count: int) -> None:
    rows = published(table, "bwd_flops")
    assert len(rows) == count
    for row in rows:
        # rounded to the digits given: 1140 M may be 1135 to 1145
        assert yang_flops(*arguments(row)) == pytest.approx(1e6 * float(row["value"]), rel=0.005), row


def test_the_saved_inputs_are_the_published_memory() -> None:
    rows = published("Table 2", "saved_conv_input_memory")
    assert len(rows) == 12
    for row in rows:
        assert round(yang_memory_bytes(*arguments(row)) / 1024, 2) == float(row["value"]), row


def test_the_last_four_layers_of_resnet18_shrink_from_490_to_112_kib() -> None:
    # inputs 256x14x14 and 3 times 512x7x7 fp32: (50176 + 3 * 25088) * 4 B = 490 KiB
    # patches of 2x2 give 4x4 of each map (of y, which is 7x7): (256 + 3 * 512) * 16 * 4 B = 112 KiB
    graph, layers = step("ResNet-18", 1000), LAST["ResNet-18"]
    assert yang_memory_bytes(graph, 1, layers) == 490 * 1024
    assert yang_memory_bytes(graph, 2, layers) == 112 * 1024


def test_flops_of_one_convolution_by_hand(make_step: object) -> None:
    # 3x3 convolution 3 -> 4 of 8x8 maps and a linear layer 256 -> 10, trained from the first layer on
    graph = make_step(4)  # type: ignore[operator]
    linear = 3 * 256 * 10
    assert yang_flops(graph) == 12 * (9 * 64 + 64 - 1) + linear
    assert yang_flops(graph, 4) == 12 * (2 * 4 - 1) + 4 * 64 + linear
    assert yang_memory_bytes(graph) == 4 * 3 * 64
    assert yang_memory_bytes(graph, 3) == 4 * 3 * 9  # ceil(8 / 3) = 3


def test_convolutions_with_a_weight_gradient_are_the_tuned_ones_unless_named() -> None:
    graph = apply(parse("sparse-update{layers=layer4.1|fc}"), trace("resnet18", batch=2, input_shape=(3, 64, 64)))
    assert [c.layer for c in tuned_convolutions(graph)] == ["layer4.1.conv1", "layer4.1.conv2"]
    assert yang_flops(graph, 2) == yang_flops(graph, {"layer4.1.conv1": 2, "layer4.1.conv2": 2})
    assert yang_flops(graph, {"layer4.1.conv1": 2}) > yang_flops(graph, 2)


def test_a_patch_for_a_layer_that_is_not_tuned_is_refused(make_step: object) -> None:
    with pytest.raises(TrainwattError, match="conv7"):
        yang_flops(make_step(4), {"conv7": 2})  # type: ignore[operator]
