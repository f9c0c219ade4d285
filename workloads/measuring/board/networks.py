# ruff: noqa: UP006, UP035
"""Networks for boards without the rest of trainwatt: the same layers as its networks of these names, without widths.

ResNet (He et al. 2016), MobileNetV2 (Sandler et al. 2018), SqueezeNet 1.1 (Iandola et al. 2016).
"""

import importlib
import os
import sys
from typing import Any, Callable, Dict, List, Tuple

import torch
from torch import nn

IMAGE = (3, 224, 224)
CLASSES = 1000


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class _Residual(nn.Module):
    """Convolutions of (outputs, kernel, stride), each normalised, and a shortcut."""

    def __init__(self, inputs: int, plan: List[Tuple[int, int, int]], project: bool) -> None:
        super().__init__()
        layers, channels, stride = [], inputs, 1
        for outputs, kernel, step in plan:
            layers += [_conv(channels, outputs, kernel, step), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            channels, stride = outputs, stride * step
        self.layers = nn.Sequential(*layers[:-1])
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(_conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.layers(x)
        y += shortcut
        return self.relu(y)


class _Flatten(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.flatten(1)


def _resnet(counts: Tuple[int, ...], bottleneck: bool) -> Any:
    layers: List[Any] = [_conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(counts):
        planes = 64 * 2**stage
        for index in range(count):
            stride = 2 if stage and not index else 1
            plan = [(planes, 3, stride), (planes, 3, 1)]
            if bottleneck:
                plan = [(planes, 1, 1), (planes, 3, stride), (4 * planes, 1, 1)]
            layers.append(_Residual(channels, plan, project=index == 0 and (stage > 0 or bottleneck)))
            channels = plan[-1][0]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((1, 1)), _Flatten(), nn.Linear(channels, CLASSES))


class _Inverted(nn.Module):
    """MobileNetV2's block: expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        channels, layers = inputs * expansion, []
        if expansion != 1:
            layers += _activated(_conv(inputs, channels, 1))
        layers += [*_activated(_conv(channels, channels, 3, stride, channels)), _conv(channels, outputs, 1)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Any) -> Any:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def _activated(conv: Any) -> List[Any]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6(inplace=True)]


def _mobilenetv2() -> Any:
    layers, channels = _activated(_conv(3, 32, 3, 2)), 32
    # expansion, output channels, blocks and first stride of each stage: table 2 of the paper
    for expansion, outputs, count, stride in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for index in range(count):
            layers.append(_Inverted(channels, outputs, 1 if index else stride, expansion))
            channels = outputs
    layers += [*_activated(_conv(channels, 1280, 1)), nn.AdaptiveAvgPool2d((1, 1)), _Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(1280, CLASSES))


class _Fire(nn.Module):
    """SqueezeNet's block: to few channels, then 1x1 and 3x3 convolutions side by side."""

    def __init__(self, inputs: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeeze, 1), nn.ReLU(inplace=True))
        self.small = nn.Sequential(nn.Conv2d(squeeze, 4 * squeeze, 1), nn.ReLU(inplace=True))
        self.large = nn.Sequential(nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Any) -> Any:
        x = self.squeeze(x)
        return torch.cat([self.small(x), self.large(x)], 1)


def _squeezenet() -> Any:
    layers, channels = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(inplace=True)], 64
    for squeeze in (0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64):
        layers.append(_Fire(channels, squeeze) if squeeze else nn.MaxPool2d(3, 2, ceil_mode=True))
        channels = 8 * squeeze or channels
    layers += [nn.Dropout(0.5), nn.Conv2d(channels, CLASSES, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))]
    return nn.Sequential(*layers, _Flatten())


NETWORKS: Dict[str, Callable[[], Any]] = {
    "resnet18": lambda: _resnet((2, 2, 2, 2), False),
    "resnet34": lambda: _resnet((3, 4, 6, 3), False),
    "resnet50": lambda: _resnet((3, 4, 6, 3), True),
    "mobilenetv2": _mobilenetv2,
    "squeezenet1.1": _squeezenet,
}


def build(name: str) -> Any:
    """Return the network `name`: one of `NETWORKS`, `package.module:callable`, or one of torchvision's models.

    Raises `ValueError` for one that is not there.
    """
    if name in NETWORKS:
        return NETWORKS[name]()
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        home = importlib.import_module(module if attribute else "torchvision.models")
        return getattr(home, attribute or name)()
    except (ImportError, AttributeError) as error:
        known = ", ".join(NETWORKS)
        raise ValueError(
            f"no network {name!r} ({error}); there is {known}, what torchvision has if it is installed, and "
            "package.module:callable"
        ) from None
