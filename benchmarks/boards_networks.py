"""Networks of the measured inference as PyTorch modules, to be traced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from boards_cells import CELLS, CONVOLUTIONS, STAGES, edges
from boards_mnasnet import CLASSES, HEAD, STEM, STRIDES, WIDTHS
from torch import Tensor, nn

from workloads.catalog import build

IMAGE = (3, 224, 224)


def normalised(inputs: int, outputs: int, kernel: int, stride: int = 1, **options: Any) -> list[nn.Module]:
    """Return a convolution without bias and its batch norm."""
    options.setdefault("padding", kernel // 2)
    return [nn.Conv2d(inputs, outputs, kernel, stride, bias=False, **options), nn.BatchNorm2d(outputs)]


class SqueezeExcite(nn.Module):
    """Scale the channels of (N, C, H, W) by what two 1x1 convolutions make of their means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        reduce, restore = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), reduce, nn.ReLU(inplace=True), restore, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Block(nn.Module):
    """Inverted residual of Accel-NASBench's space; squeeze-excite has a quarter of the block's input channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, kernel: int, squeeze: bool) -> None:
        super().__init__()
        inner = inputs * expand
        layers = [*normalised(inputs, inner, 1), nn.ReLU(inplace=True)] if expand > 1 else []
        layers += [*normalised(inner, inner, kernel, stride, groups=inner), nn.ReLU(inplace=True)]
        layers += [SqueezeExcite(inner, inputs // 4)] if squeeze else []
        self.layers = nn.Sequential(*layers, *normalised(inner, outputs, 1))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def mnasnet(row: Mapping[str, str]) -> nn.Module:
    """Return the network of a row of Accel-NASBench."""
    layers = [*normalised(3, STEM, 3, 2), nn.ReLU(inplace=True)]
    channels = STEM
    for stage, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        expand, kernel, count = (int(row[f"block{stage}_{name}"]) for name in "ekl")
        for i in range(count):
            squeeze = row[f"block{stage}_se"] == "True"
            layers.append(Block(channels, width, stride if i == 0 else 1, expand, kernel, squeeze))
            channels = width
    layers += [*normalised(channels, HEAD, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(HEAD, CLASSES))


class Zero(nn.Module):
    """Edge `none`: a product with zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class Cell(nn.Module):
    """Cell of NAS-Bench-201 on maps of `channels`: each node is the sum of an op on every node before it."""

    def __init__(self, cell: str, channels: int) -> None:
        super().__init__()
        self.edges = edges(cell)
        self.ops = nn.ModuleList([self._op(op, channels) for _, _, op in self.edges])

    def _op(self, op: str, channels: int) -> nn.Module:
        if op in CONVOLUTIONS:
            return nn.Sequential(nn.ReLU(), *normalised(channels, channels, CONVOLUTIONS[op]))
        if op == "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        return nn.Identity() if op == "skip_connect" else Zero()

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for node in (1, 2, 3):
            terms = [op(made[a]) for op, (a, b, _) in zip(self.ops, self.edges, strict=True) if b == node]
            made.append(sum(terms))  # type: ignore[arg-type]
        return made[-1]


class Reduction(nn.Module):
    """Residual block that halves the map; (N, c, H, W) to (N, k, H / 2, W / 2)."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReLU(), *normalised(c, k, 3, 2))
        self.second = nn.Sequential(nn.ReLU(), *normalised(k, k, 3))
        self.aside = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c, k, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.second(self.first(x)), self.aside(x))


def nasbench201(cell: str, classes: int = 10) -> nn.Module:
    """Return the network of a cell for images (N, 3, 32, 32)."""
    layers = normalised(3, STAGES[0], 3)
    for i, channels in enumerate(STAGES):
        layers += [Reduction(channels // 2, channels)] if i else []
        layers += [Cell(cell, channels) for _ in range(CELLS)]
    layers += [nn.BatchNorm2d(STAGES[-1]), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(STAGES[-1], classes))


def cnv(width: int) -> nn.Module:
    """Return the VGG-like CNV of FINN with `width` channels in its first layers: unpadded convolutions on 3x32x32."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(3):
        for _ in range(2):
            layers += [*normalised(channels, width << stage, 3, padding=0), nn.ReLU(inplace=True)]
            channels = width << stage
        layers += [nn.MaxPool2d(2)] if stage < 2 else [nn.Flatten()]
    hidden = 8 * width
    return nn.Sequential(*layers, nn.Linear(channels, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10))


def mlp(width: int) -> nn.Module:
    """Return FINN's MLP with three hidden layers of `width`, without the activations, which runtimes fuse."""
    return nn.Sequential(*(nn.Linear(a, b) for a, b in ((784, width), (width, width), (width, width), (width, 10))))


def resnet50_v1() -> nn.Module:
    """Return ResNet-50 with the stride in the first 1x1 convolution of a block: the 7.72 GOP of QuTiBench."""
    model = build("resnet50")
    block: Any
    for block in model.modules():
        if hasattr(block, "conv3") and block.conv2.stride == (2, 2):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return model


def googlenet_v1() -> nn.Module:
    """Return GoogLeNet with the 5x5 convolutions of the paper, where torchvision has 3x3."""
    model = build("googlenet")
    module: Any
    for name, module in list(model.named_modules()):
        if name.endswith("branch3.1"):
            module.conv = nn.Conv2d(module.conv.in_channels, module.conv.out_channels, 5, padding=2, bias=False)
    return model


def network(name: str, percent: float) -> tuple[nn.Module, tuple[int, ...]] | None:
    """Return a network of QuTiBench and its input shape; None where its definition is not known."""
    if name == "CNV":
        return cnv(round(1.28 * percent)), (3, 32, 32)
    if name == "MLP":
        return mlp(round(20.48 * percent)), (784,)
    if percent == 100 and name in ("ResNet-50", "GoogLeNetv1"):
        return resnet50_v1() if name == "ResNet-50" else googlenet_v1(), IMAGE
    return None
