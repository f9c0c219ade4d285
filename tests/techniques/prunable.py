"""Small networks whose channels go together in every way that the catalogue's do not, each by a table of widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Maps images (N, 3, 16, 16) to logits (N, 10); `width` has the output channels of its layers."""

    default: ClassVar[Mapping[str, int]]

    def __init__(self, widths: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.width = {**self.default, **(widths or {})}
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def conv(self, name: str, inputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> int:
        """Add the convolution `name` and return its width."""
        width = self.width[name]
        self.add_module(name, nn.Conv2d(inputs, width, kernel, stride, kernel // 2, groups=groups, bias=False))
        return width

    def head(self, inputs: int) -> None:
        self.add_module("fc", nn.Linear(inputs, 10))

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Return channels (groups, c) in the order (c, groups)."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNet(Net):
    """A ShuffleNet unit (Zhang et al. 2018): grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, shortcut."""

    default: ClassVar[Mapping[str, int]] = {"stem": 12, "reduce": 24, "expand": 12}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        inner = self.conv("reduce", stem, groups=3)
        self.norm = nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.head(self.conv("expand", inner, groups=3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = shuffled(F.relu(self.norm(self.reduce(x))), 3)
        return self.logits(F.relu(x + self.expand(self.depthwise(inner))))


class ShuffleNet2(Net):
    """ShuffleNetV2 units (Ma et al. 2018): half of the channels pass by, then all are shuffled."""

    default: ClassVar[Mapping[str, int]] = {"stem": 16, "one": 8, "two": 8}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        half = self.conv("one", stem // 2, 3)
        self.head(2 * self.conv("two", half, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv in (self.one, self.two):
            kept, changed = x.chunk(2, dim=1)
            x = shuffled(torch.cat((kept, F.relu(conv(changed))), dim=1), 2)
        return self.logits(x)


class SqueezeExcite(Net):
    """Channels scaled by what two layers make of their means (Hu et al. 2018), with 1x1 convolutions and linear."""

    default: ClassVar[Mapping[str, int]] = {"stem": 16, "down": 4, "up": 16, "linear_down": 6}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        self.conv("up", self.conv("down", stem))
        self.linear_down = nn.Linear(stem, self.width["linear_down"])
        self.linear_up = nn.Linear(self.width["linear_down"], stem)
        self.head(stem)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        x = x * self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        scale = self.linear_up(F.relu(self.linear_down(x.mean((2, 3)))))
        return self.logits(x * scale.sigmoid()[:, :, None, None])


class ResNeXt(Net):
    """A residual block with a grouped 3x3 convolution (Xie et al. 2017) and group norm."""

    default: ClassVar[Mapping[str, int]] = {"stem": 16, "reduce": 24, "grouped": 24, "expand": 16}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        inner = self.conv("grouped", self.conv("reduce", stem), 3, groups=4)
        self.norm = nn.GroupNorm(2, inner)
        self.conv("expand", inner)
        self.head(stem)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.logits(x + self.expand(F.relu(self.norm(self.grouped(self.reduce(x))))))


class DenseNet(Net):
    """Each layer takes all maps before it (Huang et al. 2017), normalised together."""

    default: ClassVar[Mapping[str, int]] = {"stem": 12, "one": 6, "two": 8, "transition": 10}

    def build(self) -> None:
        width = self.conv("stem", 3, 3)
        for name in ("one", "two", "transition"):
            self.add_module(f"norm_{name}", nn.BatchNorm2d(width))
            width = self.conv(name, width, 3) + (width if name != "transition" else 0)
        self.head(width)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for name in ("one", "two", "transition"):
            x = F.relu(getattr(self, f"norm_{name}")(torch.cat(maps, dim=1)))
            maps.append(getattr(self, name)(x))
        return self.logits(F.avg_pool2d(maps[-1], 2))


class UNet(Net):
    """Down, up by a transposed convolution and by interpolation, with maps handed over (Ronneberger et al. 2015)."""

    default: ClassVar[Mapping[str, int]] = {"stem": 8, "down": 16, "up": 12, "merge": 10, "wide": 6}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        down = self.conv("down", stem, 3, stride=2)
        self.up = nn.ConvTranspose2d(down, self.width["up"], 2, 2)
        merge = self.conv("merge", self.width["up"] + stem, 3)
        self.head(self.conv("wide", merge + down))

    def forward(self, x: Tensor) -> Tensor:
        early = F.leaky_relu(self.stem(x))
        low = F.leaky_relu(self.down(early))
        merged = self.merge(torch.cat((self.up(low), early), dim=1))
        wide = F.interpolate(low, scale_factor=2, mode="bilinear")
        return self.logits(self.wide(torch.cat((merged, wide), dim=1)))


class Gated(Net):
    """One half of the channels gates the other."""

    default: ClassVar[Mapping[str, int]] = {"stem": 16, "last": 12}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3)
        self.head(self.conv("last", stem // 2))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.stem(x).chunk(2, dim=1)
        return self.logits(self.last(value * gate.sigmoid()))


class Flattened(Net):
    """Maps to a vector, through linear layers, and to maps again."""

    default: ClassVar[Mapping[str, int]] = {"stem": 6, "code": 20, "decode": 5 * 64, "last": 7}

    def build(self) -> None:
        stem = self.conv("stem", 3, 3, stride=2)
        self.code = nn.Linear(stem * 64, self.width["code"])
        self.decode = nn.Linear(self.width["code"], self.width["decode"])
        self.head(self.conv("last", self.width["decode"] // 64, 3))

    def forward(self, x: Tensor) -> Tensor:
        code = self.code(F.elu(self.stem(x)).flatten(1))
        return self.logits(self.last(self.decode(code).unflatten(1, (-1, 8, 8))))


class ConvNeXt(Net):
    """A block that works on channels as the last dimension (Liu et al. 2022), with layer norm and a scale."""

    default: ClassVar[Mapping[str, int]] = {"stem": 12, "expand": 20}

    def build(self) -> None:
        stem = self.conv("stem", 3, 4, stride=4)
        self.depthwise = nn.Conv2d(stem, stem, 3, padding=1, groups=stem)
        self.norm = nn.LayerNorm(stem)
        self.expand = nn.Linear(stem, self.width["expand"])
        self.project = nn.Linear(self.width["expand"], stem)
        self.scale = nn.Parameter(torch.ones(stem))
        self.head(stem)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(F.gelu(self.expand(y)))
        return self.logits(x + y.permute(0, 3, 1, 2))


class SpatialAttention(Net):
    """Maps weighted by a map made of their mean and maximum over the channels (Woo et al. 2018)."""

    default: ClassVar[Mapping[str, int]] = {"stem": 12, "last": 8}

    def build(self) -> None:
        self.head(self.conv("last", self.conv("stem", 3, 3), 3))
        self.attend = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weight = self.attend(torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), dim=1))
        return self.logits(self.last(x * weight.sigmoid()))


class Opaque(Net):
    """The channels of `stem` pass an op of which nothing is known (they become pixels); those of `last` do not."""

    default: ClassVar[Mapping[str, int]] = {"stem": 16, "last": 8}

    def build(self) -> None:
        self.head(self.conv("last", self.conv("stem", 3, 3) // 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.last(F.pixel_shuffle(self.stem(x), 2)))


NETS: Mapping[str, Callable[..., Net]] = {
    cls.__name__: cls
    for cls in (
        ShuffleNet,
        ShuffleNet2,
        SqueezeExcite,
        ResNeXt,
        DenseNet,
        UNet,
        Gated,
        Flattened,
        ConvNeXt,
        SpatialAttention,
        Opaque,
    )
}
