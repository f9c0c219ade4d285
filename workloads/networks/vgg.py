"""VGG (Simonyan and Zisserman 2015) for ImageNet, and the batch-normalised kind in use for CIFAR."""

from collections.abc import Mapping

from torch import Tensor, nn

from simulator.errors import unknown
from workloads.catalog import network
from workloads.networks.widths import Widths

# Convolutions in each of the five groups, every group ending in a pooling layer.
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
_CHANNELS = (64, 128, 256, 512, 512)


def _features(widths: Widths, depth: int, normalised: bool) -> tuple[nn.Sequential, int]:
    """Return the convolutional part and its number of output channels."""
    if depth not in _CONVOLUTIONS:
        raise unknown("VGG depth", str(depth), map(str, _CONVOLUTIONS))
    layers: list[nn.Module] = []
    channels = 3
    for count, outputs in zip(_CONVOLUTIONS[depth], _CHANNELS, strict=True):
        for _ in range(count):
            conv = widths.conv(str(len(layers)), channels, outputs, 3, bias=True)
            channels = conv.out_channels
            layers.append(conv)
            if normalised:
                layers.append(nn.BatchNorm2d(channels))
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers), channels


class VGG(nn.Module):
    """Maps images (N, 3, H, W), H and W at least 32, to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, depth: int, classes: int) -> None:
        super().__init__()
        self.features, channels = _features(widths.at("features"), depth, normalised=False)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class CifarVGG(nn.Module):
    """Maps images (N, 3, 32, 32) to logits (N, classes), with batch normalisation and one linear layer."""

    def __init__(self, widths: Widths, depth: int, classes: int) -> None:
        super().__init__()
        self.features, channels = _features(widths.at("features"), depth, normalised=True)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


@network(
    "vgg11",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=132_863_336,
    macs=7_609_090_048,
    source="Simonyan and Zisserman 2015, configuration A; torchvision: 132,863,336 parameters, 7.61 G MACs",
    depth=11,
)
@network(
    "vgg16",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=138_357_544,
    macs=15_470_264_320,
    source="Simonyan and Zisserman 2015, configuration D; torchvision: 138,357,544 parameters, 15.47 G MACs",
    depth=16,
)
def vgg(classes: int = 1000, widths: Mapping[str, int] | None = None, depth: int = 16) -> VGG:
    """Build VGG for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"vgg{depth}", widths)
    return table.checked(VGG(table, depth, classes))


@network(
    "vgg11-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=9_231_114,
    macs=152_769_536,
    source="after Simonyan and Zisserman 2015, configuration A; numbers not published",
    depth=11,
)
@network(
    "vgg16-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=14_728_266,
    macs=313_201_664,
    source="after Simonyan and Zisserman 2015, configuration D; Li et al. 2017 (arXiv 1608.08710), "
    "with one more linear layer: 15 M parameters, 313 M MACs",
    depth=16,
)
def cifar_vgg(classes: int = 10, widths: Mapping[str, int] | None = None, depth: int = 16) -> CifarVGG:
    """Build VGG for images (N, 3, 32, 32). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"vgg{depth}-cifar", widths)
    return table.checked(CifarVGG(table, depth, classes))
