"""Widths of single convolutions: what follows from them, and tables that do not fit."""

import re

import pytest
import torch
from torch import nn

from simulator.errors import TrainwattError
from workloads.catalog import build, cards

LOGITS = {"squeezenet1.0": "classifier.1", "squeezenet1.1": "classifier.1"}
HEADS = {
    "fcn": "classifier.4",
    "pspnet": "classifier.3",
    "deeplabv3": "classifier.4",
    "upernet": "classifier.logits",
}


def on_meta(name: str, widths: dict[str, int] | None = None) -> nn.Module:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return build(name, widths=widths).eval()


def widths_of(net: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution by its path."""
    return {path: layer.out_channels for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d)}


@pytest.mark.parametrize("name", cards())
def test_a_full_table_of_the_default_widths_gives_the_default_network(name: str) -> None:
    default = on_meta(name)
    same = on_meta(name, widths_of(default))
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (default, same)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", cards())
def test_a_full_table_of_half_the_widths_gives_a_network_that_runs(name: str) -> None:
    logits = LOGITS.get(name) or HEADS.get(name.partition("-")[0])
    table = {path: width if path == logits else width // 2 for path, width in widths_of(on_meta(name)).items()}
    net = on_meta(name, table)
    assert widths_of(net) == table
    output = net(torch.empty(2, *cards()[name].input_shape, device="meta"))
    assert output.shape[:2] == (2, cards()[name].classes)


def test_missing_entries_keep_their_width_and_followers_take_it_over() -> None:
    net = on_meta("resnet18", {"layer1.0.conv1": 10})
    assert (net.layer1[0].conv1.out_channels, net.layer1[0].bn1.num_features) == (10, 10)
    assert (net.layer1[0].conv2.in_channels, net.layer1[0].conv2.out_channels) == (10, 64)


def test_a_depthwise_convolution_follows_its_input() -> None:
    net = on_meta("mobilenetv2", {"features.2.conv.0.0": 50})
    depthwise = net.features[2].conv[1][0]
    assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (50, 50, 50)
    assert net.features[2].conv[2].in_channels == 50


def test_concatenations_and_the_first_linear_layer_follow() -> None:
    assert on_meta("squeezenet1.1", {"features.3.expand1x1": 5}).features[4].squeeze.in_channels == 5 + 64
    assert on_meta("googlenet", {"inception5b.branch3.1.conv": 100}).fc.in_features == 1024 - 128 + 100
    assert on_meta("vgg16", {"features.28": 9}).classifier[0].in_features == 9 * 49


def test_the_patch_embedding_sets_the_width_of_the_transformer() -> None:
    assert on_meta("vit-tiny", {"patch_embed.proj": 96}).blocks[11].mlp.fc1.out_features == 384


def test_padded_shortcuts_may_grow_by_any_number_of_channels() -> None:
    stage = {f"layer2.{index}.conv2": 19 for index in range(3)}
    net = on_meta("resnet20-cifar", stage)
    assert net(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        (
            "resnet18",
            {"layer9.0.conv1": 8},
            "no convolution 'layer9.0.conv1' in resnet18; did you mean 'layer[1-4].0.conv1'?",
        ),
        ("resnet18", {"x": 8}, "no convolution 'x' in resnet18; it has 20, from 'conv1' to 'layer4.1.conv2'"),
        ("lstm", {"conv1": 8}, "no convolution 'conv1' in lstm; it has none"),
        ("resnet18", {"conv1": 0}, "the width of 'conv1' must be a positive integer, got 0"),
        ("resnet18", {"conv1": -3}, "positive integer, got -3"),
        ("resnet18", {"conv1": 2.5}, "positive integer, got 2.5"),
        ("resnet18", {"conv1": True}, "positive integer, got True"),
        (
            "resnet18",
            {"layer1.1.conv2": 32},
            (
                "'conv1' is 64 wide and 'layer1.1.conv2' 32 in resnet18, but their outputs are added up; "
                "these must be equal: conv1, layer1.0.conv2, layer1.1.conv2"
            ),
        ),
        (
            "resnet18",
            {"layer2.0.downsample.0": 100},
            "these must be equal: layer2.0.conv2, layer2.0.downsample.0, layer2.1.conv2",
        ),
        (
            "mobilenetv2",
            {"features.2.conv.1.0": 48},
            "'features.2.conv.1.0' in mobilenetv2 is depthwise and must be as wide as its input: 96, got 48",
        ),
        ("mnasnet", {"layers.8.1.layers.6": 5}, "these must be equal: layers.8.0.layers.6, layers.8.1"),
        ("squeezenet1.0", {"classifier.1": 10}, "must be as wide as there are classes: 1000, got 10"),
        (
            "resnet20-cifar",
            {f"layer2.{i}.conv2": 8 for i in range(3)},
            "'layer2.0.conv2' is 8 wide, less than",
        ),
        ("vit-tiny", {"patch_embed.proj": 100}, "100 wide, not a multiple of the 3 attention heads"),
        (
            "upernet-resnet18",
            {"classifier.lateral.0.0": 8},
            "must be equal: classifier.top.0, classifier.lateral.0.0, classifier.lateral.1.0",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused_in_one_line(name: str, widths: dict[str, int], message: str) -> None:
    pattern = re.escape(message).replace(re.escape("[1-4]"), "[1-4]")
    with pytest.raises(TrainwattError, match=pattern) as caught:
        on_meta(name, widths)
    assert "\n" not in str(caught.value)


def test_a_whole_group_of_added_convolutions_may_change_together() -> None:
    group = {"conv1": 24, "layer1.0.conv2": 24, "layer1.1.conv2": 24}
    assert on_meta("resnet18", group).layer2[0].downsample[0].in_channels == 24
