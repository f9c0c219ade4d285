"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from simulator.errors import unknown
from workloads.catalog import network
from workloads.networks.widths import Widths

# Width and kernel of the first convolution, and after it, in order: the channels to squeeze to (a quarter of
# those to expand to in each of the two kinds), or 0 for pooling.
_VERSIONS = {
    "1.0": ((96, 7), (0, 16, 16, 32, 0, 32, 48, 48, 64, 0, 64)),
    "1.1": ((64, 3), (0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64)),
}


class Fire(nn.Module):
    """1x1 convolution to few channels, then 1x1 and 3x3 ones side by side; (N, C, H, W) to (N, C', H, W)."""

    def __init__(self, widths: Widths, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = widths.conv("squeeze", inputs, squeeze, 1, bias=True)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = widths.conv("expand1x1", self.squeeze.out_channels, expand, 1, bias=True)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = widths.conv("expand3x3", self.squeeze.out_channels, expand, 3, bias=True)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.expand1x1.out_channels + self.expand3x3.out_channels

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1
        )


class SqueezeNet(nn.Module):
    """Maps images (N, 3, H, W) to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, version: str, classes: int) -> None:
        super().__init__()
        if version not in _VERSIONS:
            raise unknown("SqueezeNet version", version, _VERSIONS)
        (outputs, kernel), plan = _VERSIONS[version]
        stem = widths.conv("features.0", 3, outputs, kernel, 2, padding=0, bias=True)
        channels = stem.out_channels
        layers: list[nn.Module] = [stem, nn.ReLU(inplace=True)]
        for squeeze in plan:
            if squeeze == 0:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                fire = Fire(widths.at(f"features.{len(layers)}"), channels, squeeze, 4 * squeeze)
                layers.append(fire)
                channels = fire.outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            widths.classes("classifier.1", channels, classes),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d((1, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images)).flatten(1)


@network(
    "squeezenet1.0",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=1_248_424,
    macs=818_924_576,
    source="Iandola et al. 2016 (arXiv 1602.07360); torchvision: 1,248,424 parameters, 0.82 G MACs",
    version="1.0",
)
@network(
    "squeezenet1.1",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=1_235_496,
    macs=349_151_936,
    source="version 1.1 by Iandola et al. 2016; torchvision: 1,235,496 parameters, 0.35 G MACs",
    version="1.1",
)
def squeezenet(classes: int = 1000, widths: Mapping[str, int] | None = None, version: str = "1.1") -> SqueezeNet:
    """Build SqueezeNet for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"squeezenet{version}", widths)
    return table.checked(SqueezeNet(table, version, classes))
