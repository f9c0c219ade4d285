"""ResNet for ImageNet (He et al. 2016), bottlenecks with the stride in the 3x3 convolution."""

from collections.abc import Mapping

from torch import Tensor, nn

from simulator.errors import unknown
from workloads.catalog import network
from workloads.networks.widths import Widths


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (N, C, H, W) to (N, C', H / stride, W / stride).

    `source` is the convolution whose (normalised) output enters the block; `project` puts a 1x1
    convolution into the shortcut.
    """

    def __init__(
        self, widths: Widths, source: nn.Conv2d, *, planes: int, stride: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        self.conv1 = widths.conv("conv1", source.out_channels, planes, 3, stride, dilation=dilation)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = widths.conv("conv2", self.conv1.out_channels, planes, 3)
        self.bn2 = nn.BatchNorm2d(self.conv2.out_channels)
        self.downsample = _projection(widths, source, planes, stride) if project else None
        widths.added(self.conv2, source if self.downsample is None else self.downsample[0])

    @property
    def output(self) -> nn.Conv2d:
        """The convolution that gives the block its width."""
        return self.conv2

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide, and a shortcut; see `BasicBlock`."""

    def __init__(
        self, widths: Widths, source: nn.Conv2d, *, planes: int, stride: int, dilation: int, project: bool
    ) -> None:
        super().__init__()
        self.conv1 = widths.conv("conv1", source.out_channels, planes, 1)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        self.conv2 = widths.conv("conv2", self.conv1.out_channels, planes, 3, stride, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(self.conv2.out_channels)
        self.conv3 = widths.conv("conv3", self.conv2.out_channels, planes * 4, 1)
        self.bn3 = nn.BatchNorm2d(self.conv3.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(widths, source, planes * 4, stride) if project else None
        widths.added(self.conv3, source if self.downsample is None else self.downsample[0])

    @property
    def output(self) -> nn.Conv2d:
        """The convolution that gives the block its width."""
        return self.conv3

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)


def _projection(widths: Widths, source: nn.Conv2d, outputs: int, stride: int) -> nn.Sequential:
    conv = widths.conv("downsample.0", source.out_channels, outputs, 1, stride)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


_BLOCKS = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


class Trunk(nn.Module):
    """The convolutional part: maps images (N, 3, H, W) to the outputs of its four stages.

    The stages are at 1/4, 1/8, 1/16 and 1/32 of the image size; from the stage on that would exceed
    `output_stride`, dilation takes the place of striding. `sources` names, for each stage, the
    convolution that gives it its width. Raises `TrainwattError` for a depth other than 10, 18, 34, 50 or 101.
    """

    def __init__(self, widths: Widths, depth: int, output_stride: int = 32) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise unknown("ResNet depth", str(depth), map(str, _BLOCKS))
        self.conv1 = widths.conv("conv1", 3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(self.conv1.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        block, counts = _BLOCKS[depth]
        source, reached, dilation = self.conv1, 4, 1
        for stage, count in enumerate(counts):
            stride = 1 if stage == 0 else 2
            before = dilation
            if reached * stride > output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            blocks = []
            for index in range(count):
                blocks.append(
                    block(
                        widths.at(f"layer{stage + 1}.{index}"),
                        source,
                        planes=64 * 2**stage,
                        stride=stride if index == 0 else 1,
                        dilation=before if index == 0 else dilation,
                        project=index == 0 and (stage > 0 or block is Bottleneck),
                    )
                )
                source = blocks[-1].output
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    @property
    def sources(self) -> tuple[nn.Conv2d, ...]:
        """For each stage the convolution that gives it its width."""
        return tuple(stage[-1].output for stage in (self.layer1, self.layer2, self.layer3, self.layer4))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        outputs = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            outputs.append(x)
        return outputs


class ResNet(Trunk):
    """Maps images (N, 3, H, W) to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, depth: int, classes: int) -> None:
        super().__init__(widths, depth)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.sources[-1].out_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.avgpool(super().forward(images)[-1]).flatten(1))


@network(
    "resnet10",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=5_418_792,
    macs=889_229_312,
    source="after He et al. 2016, one basic block a stage; numbers not published there",
    depth=10,
)
@network(
    "resnet18",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=11_689_512,
    macs=1_814_073_344,
    source="He et al. 2016; torchvision: 11,689,512 parameters, 1.81 G MACs",
    depth=18,
)
@network(
    "resnet34",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=21_797_672,
    macs=3_663_761_408,
    source="He et al. 2016; torchvision: 21,797,672 parameters, 3.66 G MACs",
    depth=34,
)
@network(
    "resnet50",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=25_557_032,
    macs=4_089_184_256,
    source="He et al. 2016; torchvision: 25,557,032 parameters, 4.09 G MACs",
    depth=50,
)
def resnet(classes: int = 1000, widths: Mapping[str, int] | None = None, depth: int = 18) -> ResNet:
    """Build ResNet for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"resnet{depth}", widths)
    return table.checked(ResNet(table, depth, classes))
