"""MnasNet-B1 with depth multiplier 1.0 (Tan et al. 2019)."""

from collections.abc import Mapping

from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths

# Output channels, kernel, first stride, expansion and blocks of each stage: figure 7 of the paper.
_STAGES = (
    (24, 3, 2, 3, 3),
    (40, 5, 2, 3, 3),
    (80, 5, 2, 6, 3),
    (96, 3, 1, 6, 2),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)
_MOMENTUM = 1 - 0.9997


def _normalised(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels, momentum=_MOMENTUM)]


def _activated(conv: nn.Conv2d) -> list[nn.Module]:
    return [*_normalised(conv), nn.ReLU(inplace=True)]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; (N, C, H, W) to (N, C', H / stride, W / stride).

    `source` is the convolution whose (normalised) output enters the block; `inputs` and `outputs` are the
    numbers of channels in the definition. They decide whether there is a shortcut, whatever the widths.
    """

    def __init__(
        self,
        widths: Widths,
        source: nn.Conv2d,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
    ) -> None:
        super().__init__()
        self.apply_residual = stride == 1 and inputs == outputs
        expand = widths.conv("layers.0", source.out_channels, inputs * expansion, 1)
        spatial = widths.depthwise("layers.3", expand.out_channels, kernel, stride)
        project = widths.conv("layers.6", spatial.out_channels, outputs, 1)
        self.layers = nn.Sequential(*_activated(expand), *_activated(spatial), *_normalised(project))
        if self.apply_residual:
            widths.added(source, project)

    @property
    def output(self) -> nn.Conv2d:
        """The convolution that gives the block its width."""
        return self.layers[6]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.apply_residual else self.layers(x)


class MnasNet(nn.Module):
    """Maps images (N, 3, H, W) to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        stem = widths.conv("layers.0", 3, 32, 3, 2)
        spatial = widths.depthwise("layers.3", stem.out_channels, 3)
        source, channels = widths.conv("layers.6", spatial.out_channels, 16, 1), 16
        layers = [*_activated(stem), *_activated(spatial), *_normalised(source)]
        for outputs, kernel, stride, expansion, count in _STAGES:
            blocks = []
            for index in range(count):
                scope = widths.at(f"layers.{len(layers)}.{index}")
                first = stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(scope, source, channels, outputs, kernel=kernel, stride=first, expansion=expansion)
                )
                source, channels = blocks[-1].output, outputs
            layers.append(nn.Sequential(*blocks))
        last = widths.conv(f"layers.{len(layers)}", source.out_channels, 1280, 1)
        self.layers = nn.Sequential(*layers, *_activated(last))
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(last.out_channels, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.layers(images).mean([2, 3]))


@network(
    "mnasnet",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=4_383_312,
    macs=314_415_872,
    source="Tan et al. 2019, MnasNet-B1; torchvision mnasnet1_0: 4,383,312 parameters, 0.31 G MACs",
)
def mnasnet(classes: int = 1000, widths: Mapping[str, int] | None = None) -> MnasNet:
    """Build MnasNet for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths("mnasnet", widths)
    return table.checked(MnasNet(table, classes))
