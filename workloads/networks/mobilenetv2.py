"""MobileNetV2 (Sandler et al. 2018)."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths

# Expansion, output channels, blocks and first stride of each stage: table 2 of the paper.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def activated(conv: nn.Conv2d) -> nn.Sequential:
    """Return `conv` followed by batch normalisation and ReLU6."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6(inplace=True))


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
        stride: int,
        expansion: int,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and inputs == outputs
        channels = source.out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            expand = widths.conv("conv.0.0", channels, inputs * expansion, 1)
            channels = expand.out_channels
            layers.append(activated(expand))
        layers.append(activated(widths.depthwise(f"conv.{len(layers)}.0", channels, kernel, stride)))
        project = widths.conv(f"conv.{len(layers)}", channels, outputs, 1)
        self.conv = nn.Sequential(*layers, project, nn.BatchNorm2d(project.out_channels))
        if self.use_res_connect:
            widths.added(source, project)

    @property
    def output(self) -> nn.Conv2d:
        """The convolution that gives the block its width."""
        return self.conv[-2]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """Maps images (N, 3, H, W) to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        source, channels = widths.conv("features.0.0", 3, 32, 3, 2), 32
        layers: list[nn.Module] = [activated(source)]
        for expansion, outputs, count, stride in _STAGES:
            for index in range(count):
                scope = widths.at(f"features.{len(layers)}")
                first = stride if index == 0 else 1
                layers.append(InvertedResidual(scope, source, channels, outputs, stride=first, expansion=expansion))
                source, channels = layers[-1].output, outputs
        last = widths.conv(f"features.{len(layers)}.0", source.out_channels, 1280, 1)
        self.features = nn.Sequential(*layers, activated(last))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last.out_channels, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(images), (1, 1)).flatten(1))


@network(
    "mobilenetv2",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=3_504_872,
    macs=300_774_272,
    source="Sandler et al. 2018, width 1.0: 3.4 M parameters, 300 M MACs; torchvision: 3,504,872 parameters, "
    "0.30 G MACs",
)
def mobilenetv2(classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV2:
    """Build MobileNetV2 for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths("mobilenetv2", widths)
    return table.checked(MobileNetV2(table, classes))
