"""ResNet for CIFAR (He et al. 2016, section 4.2) with parameter-free shortcuts (option A)."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from simulator.errors import TrainwattError
from workloads.catalog import network
from workloads.networks.widths import Widths


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; (N, C, H, W) to (N, C', H / stride, W / stride).

    Where the block is strided, its shortcut takes every other pixel and pads with zero channels.
    `source` is the convolution whose (normalised) output enters the block. Raises `TrainwattError`
    where padding would have to remove channels.
    """

    def __init__(self, widths: Widths, source: nn.Conv2d, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = widths.conv("conv1", source.out_channels, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = widths.conv("conv2", self.conv1.out_channels, planes, 3)
        self.bn2 = nn.BatchNorm2d(self.conv2.out_channels)
        self.stride = stride
        self.padding = self.conv2.out_channels - source.out_channels
        if stride == 1:
            widths.added(source, self.conv2)
        elif self.padding < 0:
            raise TrainwattError(
                f"{widths.path(self.conv2)!r} is {self.conv2.out_channels} wide, less than "
                f"{widths.path(source)!r} with {source.out_channels}, which its shortcut pads with zeros"
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.stride > 1:
            before = self.padding // 2
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.padding - before))
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class CifarResNet(nn.Module):
    """Maps images (N, 3, 32, 32) to logits (N, classes); `depth` is 6 n + 2 for n blocks a stage.

    Raises `TrainwattError` for another depth.
    """

    def __init__(self, widths: Widths, depth: int, classes: int) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise TrainwattError(f"a CIFAR ResNet is 8, 14, 20, ... (6 n + 2) layers deep, not {depth}")
        self.conv1 = widths.conv("conv1", 3, 16, 3)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        self.relu = nn.ReLU(inplace=True)
        source = self.conv1
        for stage, planes in enumerate((16, 32, 64)):
            blocks = []
            for index in range(depth // 6):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(widths.at(f"layer{stage + 1}.{index}"), source, planes, stride))
                source = blocks[-1].conv2
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(source.out_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


@network(
    "resnet8-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=75_290,
    macs=12_239_488,
    source="after He et al. 2016, n = 1; numbers not published there",
    depth=8,
)
@network(
    "resnet20-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=269_722,
    macs=40_551_040,
    source="He et al. 2016: 0.27 M parameters",
    depth=20,
)
@network(
    "resnet32-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=464_154,
    macs=68_862_592,
    source="He et al. 2016: 0.46 M parameters",
    depth=32,
)
@network(
    "resnet56-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=853_018,
    macs=125_485_696,
    source="He et al. 2016: 0.85 M parameters; Li et al. 2017 (arXiv 1608.08710): 125 M MACs",
    depth=56,
)
@network(
    "resnet74-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=1_144_666,
    macs=167_953_024,
    source="after He et al. 2016, n = 12; Wang et al. 2019 (E2-Train, arXiv 1910.13349): 168 M MACs",
    depth=74,
)
@network(
    "resnet110-cifar",
    input_shape=(3, 32, 32),
    classes=10,
    parameters=1_727_962,
    macs=252_887_680,
    source="He et al. 2016: 1.7 M parameters; Li et al. 2017 (arXiv 1608.08710): 253 M MACs",
    depth=110,
)
def cifar_resnet(classes: int = 10, widths: Mapping[str, int] | None = None, depth: int = 20) -> CifarResNet:
    """Build a ResNet for images (N, 3, 32, 32).

    Raises `TrainwattError` where `widths` do not fit or `depth` is not 6 n + 2.
    """
    table = Widths(f"resnet{depth}-cifar", widths)
    return table.checked(CifarResNet(table, depth, classes))
