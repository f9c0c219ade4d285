"""Parameters and multiply-accumulates: the cards against the modules and against published numbers."""

import math

import pytest
import torch
from torch import Tensor, nn

from workloads.catalog import build, cards

TORCHVISION = "torchvision documentation, model weights: num_params, GFLOPS (which counts multiply-accumulates)"
HE = "He et al. 2016 (arXiv 1512.03385), table 6"
LI = "Li et al. 2017 (arXiv 1608.08710), table 1"

# (network, number, unit, source): printed digits, agreeing where our value is within half of the last one.
PARAMETERS = [
    ("alexnet", "61100840", 1, TORCHVISION),
    ("vgg11", "132863336", 1, TORCHVISION),
    ("vgg16", "138357544", 1, TORCHVISION),
    ("resnet18", "11689512", 1, TORCHVISION),
    ("resnet34", "21797672", 1, TORCHVISION),
    ("resnet50", "25557032", 1, TORCHVISION),
    ("mobilenetv2", "3504872", 1, TORCHVISION),
    ("mobilenetv2", "3.5", 1e6, TORCHVISION),
    ("mnasnet", "4383312", 1, TORCHVISION),
    ("squeezenet1.0", "1248424", 1, TORCHVISION),
    ("squeezenet1.1", "1235496", 1, TORCHVISION),
    ("googlenet", "6624904", 1, TORCHVISION),
    ("resnet20-cifar", "0.27", 1e6, HE),
    ("resnet32-cifar", "0.46", 1e6, HE),
    ("resnet56-cifar", "0.85", 1e6, HE),
    ("resnet110-cifar", "1.7", 1e6, HE),
    ("vgg16-cifar", "1.5", 1e7, LI),
    ("vit-tiny", "5.7", 1e6, "Touvron et al. 2021 (arXiv 2012.12877), table 1: DeiT-Ti"),
    ("lenet5", "61706", 1, "usual LeNet-5 with a dense second convolution; LeCun et al. 1998: about 60,000"),
]
MACS = [
    ("alexnet", "0.71", 1e9, TORCHVISION),
    ("vgg11", "7.61", 1e9, TORCHVISION),
    ("vgg16", "15.47", 1e9, TORCHVISION),
    ("resnet18", "1.81", 1e9, TORCHVISION),
    ("resnet34", "3.66", 1e9, TORCHVISION),
    ("resnet50", "4.09", 1e9, TORCHVISION),
    ("mobilenetv2", "0.30", 1e9, TORCHVISION),
    ("mnasnet", "0.31", 1e9, TORCHVISION),
    ("squeezenet1.0", "0.82", 1e9, TORCHVISION),
    ("squeezenet1.1", "0.35", 1e9, TORCHVISION),
    ("googlenet", "1.50", 1e9, TORCHVISION),
    ("resnet56-cifar", "1.25", 1e8, LI),
    ("resnet110-cifar", "2.53", 1e8, LI),
    ("vgg16-cifar", "3.13", 1e8, LI),
    ("resnet74-cifar", "168", 1e6, "Wang et al. 2019, E2-Train (arXiv 1910.13349)"),
    ("vit-tiny", "1.3", 1e9, "timm model card of deit_tiny_patch16_224: GMACs"),
]
# Checked below on a published relative: these have an auxiliary head, another backbone or more classes.
RELATED = {"fcn-resnet50", "deeplabv3-resnet50", "pspnet-resnet50", "upernet-resnet50"}
# Sizes of our own or backbones and depths for which the papers print no numbers.
NOT_PUBLISHED = {
    "resnet8-cifar",
    "resnet10",
    "vgg11-cifar",
    "mcunet-like",
    "lstm",
    "fcn-resnet18",
    "pspnet-resnet18",
    "deeplabv3-resnet18",
    "upernet-resnet18",
}


def on_meta(name: str, **arguments: object) -> nn.Module:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return build(name, **arguments).eval()


def parameters(net: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def forward_macs(net: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the multiply-accumulates of one sample, counted layer by layer while it passes."""
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counts.append(output.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size))
        elif isinstance(layer, nn.Linear):
            counts.append(output.numel() * layer.in_features)
        elif isinstance(layer, nn.LSTM):
            steps, features = inputs[0].shape[-2:]
            for index in range(layer.num_layers):
                entering = features if index == 0 else layer.hidden_size
                counts.append(steps * 4 * layer.hidden_size * (entering + layer.hidden_size))

    attend = nn.functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query.numel() // query.shape[-1] * key.shape[-2]
        counts.append(scores * (query.shape[-1] + value.shape[-1]))
        return attend(query, key, value)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attention)
    for layer in net.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.empty(1, *shape, device="meta"))
    return sum(counts)


def agrees(value: float, printed: str) -> bool:
    """Say whether `value` is within half a unit of the last digit `printed`."""
    decimals = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-decimals


@pytest.mark.parametrize("name", cards())
def test_parameters_of_the_built_network_are_those_on_its_card(name: str) -> None:
    assert parameters(on_meta(name)) == cards()[name].parameters


@pytest.mark.parametrize("name", cards())
def test_multiply_accumulates_counted_layer_by_layer_are_those_on_the_card(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = cards()[name]
    assert forward_macs(on_meta(name), card.input_shape, monkeypatch) == card.macs


@pytest.mark.parametrize(("name", "printed", "unit", "source"), PARAMETERS)
def test_parameters_agree_with_the_published_number(name: str, printed: str, unit: float, source: str) -> None:
    assert agrees(cards()[name].parameters / unit, printed), source


@pytest.mark.parametrize(("name", "printed", "unit", "source"), MACS)
def test_multiply_accumulates_agree_with_the_published_number(
    name: str, printed: str, unit: float, source: str
) -> None:
    assert agrees(cards()[name].macs / unit, printed), source


def test_every_network_is_checked_against_publications_or_said_to_be_unpublished() -> None:
    checked = {row[0] for row in PARAMETERS + MACS} | RELATED
    assert checked | NOT_PUBLISHED == set(cards())
    assert not checked & NOT_PUBLISHED
    for name in NOT_PUBLISHED:
        assert "numbers not published" in cards()[name].source, name


@pytest.mark.parametrize(
    ("name", "published_parameters", "published_macs"),
    [("fcn-resnet50", 35_322_218, "152.717"), ("deeplabv3-resnet50", 42_004_074, "178.722")],
)
def test_with_an_auxiliary_head_fcn_and_deeplabv3_have_the_numbers_of_torchvision(
    name: str, published_parameters: int, published_macs: str
) -> None:
    # Torchvision's auxiliary head: 3x3 convolution 1024 to 256, normalisation, 1x1 to 21 classes with bias,
    # on the 65x65 output of the third stage.
    weights = 1024 * 256 * 9 + 256 * 21
    card = cards()[name]
    assert card.parameters + weights + 2 * 256 + 21 == published_parameters
    assert agrees((card.macs + weights * 65 * 65) / 1e9, published_macs), TORCHVISION


@pytest.mark.parametrize(
    ("name", "size", "published_parameters", "published_macs"),
    [
        # Xie et al. 2021, SegFormer (arXiv 2105.15203), table 2.
        ("pspnet-resnet50", (512, 512), "68.1", 256.4),
        # Liu et al. 2021, Swin transformer (arXiv 2103.14030), table 3.
        ("upernet-resnet50", (512, 2048), "86", 1029.0),
    ],
)
def test_as_benchmarked_on_ade20k_pspnet_and_upernet_have_the_published_numbers(
    name: str,
    size: tuple[int, int],
    published_parameters: str,
    published_macs: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The published ones stand on a ResNet-101 that starts with three 3x3 convolutions (32, 32, 64 channels)
    # in place of a 7x7 one, tell 150 classes, and count the parameters of an auxiliary head on stage three.
    net = on_meta(name, classes=150, depth=101)
    stem = (3 * 32 + 32 * 32 + 32 * 64) * 9 - 3 * 64 * 49
    auxiliary = 1024 * 256 * 9 + 2 * 256 + 256 * 150 + 150
    assert agrees((parameters(net) + stem + 2 * (32 + 32) + auxiliary) / 1e6, published_parameters)
    macs = forward_macs(net, (3, *size), monkeypatch) + stem * math.prod(size) // 4
    # Their counter adds normalisation and resampling, which is within 0.2 % here.
    assert macs / 1e9 == pytest.approx(published_macs, rel=0.002)


def test_small_network_of_our_own_is_as_large_as_it_is_meant_to_be() -> None:
    card = cards()["mcunet-like"]
    assert 0.6e6 < card.parameters < 0.8e6
    assert 60e6 < card.macs < 130e6
