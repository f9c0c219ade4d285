"""GoogLeNet (Szegedy et al. 2015) with batch normalisation and without the auxiliary heads."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths

# Channels of each inception: 1x1; to reduce to and out of the second and third branch; behind the pooling.
_INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


class BasicConv2d(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, widths: Widths, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = widths.conv("conv", inputs, outputs, kernel, stride)
        self.bn = nn.BatchNorm2d(self.conv.out_channels, eps=0.001)

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.conv.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Four branches side by side, (N, C, H, W) to (N, C', H, W); the third one is 3x3 as in torchvision."""

    def __init__(self, widths: Widths, inputs: int, plan: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce2, two, reduce3, three, four = plan
        self.branch1 = BasicConv2d(widths.at("branch1"), inputs, one, 1)
        reduced = BasicConv2d(widths.at("branch2.0"), inputs, reduce2, 1)
        self.branch2 = nn.Sequential(reduced, BasicConv2d(widths.at("branch2.1"), reduced.outputs, two, 3))
        reduced = BasicConv2d(widths.at("branch3.0"), inputs, reduce3, 1)
        self.branch3 = nn.Sequential(reduced, BasicConv2d(widths.at("branch3.1"), reduced.outputs, three, 3))
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(widths.at("branch4.1"), inputs, four, 1)
        )

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        last = (self.branch1, self.branch2[1], self.branch3[1], self.branch4[1])
        return sum(branch.outputs for branch in last)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """Maps images (N, 3, H, W) to logits (N, classes).

    Modules as in torchvision with `aux_logits=False`: there are no auxiliary heads, in training neither.
    """

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        self.conv1 = BasicConv2d(widths.at("conv1"), 3, 64, 7, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(widths.at("conv2"), self.conv1.outputs, 64, 1)
        self.conv3 = BasicConv2d(widths.at("conv3"), self.conv2.outputs, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        channels = self.conv3.outputs
        for name, plan in _INCEPTIONS.items():
            if name == "inception4a":
                self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
            elif name == "inception5a":
                self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
            inception = Inception(widths.at(name), channels, plan)
            self.add_module(name, inception)
            channels = inception.outputs
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool1(self.conv1(images))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        x = self.inception5b(self.inception5a(x))
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


@network(
    "googlenet",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=6_624_904,
    macs=1_498_376_192,
    source="Szegedy et al. 2015; torchvision, auxiliary heads off: 6,624,904 parameters, 1.50 G MACs",
)
def googlenet(classes: int = 1000, widths: Mapping[str, int] | None = None) -> GoogLeNet:
    """Build GoogLeNet, auxiliary heads off, for images (N, 3, 224, 224).

    Raises `TrainwattError` where `widths` do not fit.
    """
    table = Widths("googlenet", widths)
    return table.checked(GoogLeNet(table, classes))
