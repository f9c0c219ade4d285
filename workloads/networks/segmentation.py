"""Segmentation on ResNet: FCN (Long et al. 2015), PSPNet (Zhao et al. 2017), DeepLabV3 (Chen et al. 2017)
and UPerNet (Xiao et al. 2018), all without auxiliary heads.

On ResNet-18 the heads of FCN and PSPNet are a quarter as wide as on ResNet-50, because their definitions take
a share of the width of the backbone; those of DeepLabV3 and UPerNet stay. Pooling to one pixel is normalised
over the batch in PSPNet, DeepLabV3 and UPerNet: in training these need at least two images a batch.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.resnet import Trunk
from workloads.networks.widths import Widths


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _unit(
    widths: Widths,
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    dilation: int = 1,
    before: Sequence = (),
) -> nn.Sequential:
    """Return a convolution with batch normalisation and ReLU, behind the layers `before`."""
    conv = widths.conv(f"{name}.{len(before)}", inputs, outputs, kernel, dilation=dilation)
    return nn.Sequential(*before, conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())


def _outputs(layers: nn.Sequential) -> int:
    """Return the number of output channels of the last convolution among `layers`."""
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels


class SegmentationNetwork(nn.Module):
    """Maps images (N, 3, H, W) to logits (N, classes, H, W).

    The `classifier` gets the output of the last stage of the backbone, or those of all of them.
    """

    def __init__(self, backbone: Trunk, classifier: nn.Module, all_stages: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.all_stages = all_stages

    def forward(self, images: Tensor) -> Tensor:
        stages = self.backbone(images)
        return _resized(self.classifier(stages if self.all_stages else stages[-1]), images)


def _fcn_head(widths: Widths, inputs: int, default: int, classes: int) -> nn.Sequential:
    conv = widths.conv("0", inputs, default // 4, 3)
    return nn.Sequential(
        conv,
        nn.BatchNorm2d(conv.out_channels),
        nn.ReLU(),
        nn.Dropout(0.1),
        widths.classes("4", conv.out_channels, classes),
    )


class PyramidPooling(nn.Module):
    """Adds averages over 1x1, 2x2, 3x3 and 6x6 regions; (N, C, H, W) to (N, outputs, H, W)."""

    def __init__(self, widths: Widths, inputs: int, channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _unit(widths, f"stages.{index}", inputs, channels, 1, before=[nn.AdaptiveAvgPool2d(bins)])
            for index, bins in enumerate((1, 2, 3, 6))
        )
        self.outputs = inputs + sum(_outputs(stage) for stage in self.stages)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, *(_resized(stage(x), x) for stage in self.stages)], 1)


def _psp_head(widths: Widths, inputs: int, default: int, classes: int) -> nn.Sequential:
    pooling = PyramidPooling(widths.at("0"), inputs, default // 4)
    fuse = _unit(widths, "1", pooling.outputs, default // 4, 3)
    return nn.Sequential(pooling, fuse, nn.Dropout(0.1), widths.classes("3", _outputs(fuse), classes))


class AtrousPyramid(nn.Module):
    """Filters at several dilations, and an image-wide average; (N, C, H, W) to (N, outputs, H, W)."""

    def __init__(self, widths: Widths, inputs: int, channels: int = 256) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                _unit(widths, "convs.0", inputs, channels, 1),
                *(
                    _unit(widths, f"convs.{i}", inputs, channels, 3, dilation=rate)
                    for i, rate in ((1, 12), (2, 24), (3, 36))
                ),
                _unit(widths, "convs.4", inputs, channels, 1, before=[nn.AdaptiveAvgPool2d(1)]),
            ]
        )
        joined = sum(_outputs(conv) for conv in self.convs)
        self.project = _unit(widths, "project", joined, channels, 1).append(nn.Dropout(0.5))
        self.outputs = _outputs(self.project)

    def forward(self, x: Tensor) -> Tensor:
        branches = [conv(x) for conv in self.convs]
        return self.project(torch.cat([*branches[:-1], _resized(branches[-1], x)], 1))


def _deeplab_head(widths: Widths, inputs: int, classes: int) -> nn.Sequential:
    pyramid = AtrousPyramid(widths.at("0"), inputs)
    conv = widths.conv("1", pyramid.outputs, 256, 3)
    return nn.Sequential(
        pyramid,
        conv,
        nn.BatchNorm2d(conv.out_channels),
        nn.ReLU(),
        widths.classes("4", conv.out_channels, classes),
    )


class UPerHead(nn.Module):
    """Feature pyramid with pyramid pooling on top; outputs of four stages to (N, classes, H / 4, W / 4)."""

    def __init__(self, widths: Widths, inputs: Sequence[int], classes: int, channels: int = 512) -> None:
        super().__init__()
        *lower, top = inputs
        self.pooling = PyramidPooling(widths.at("pooling"), top, channels)
        self.top = _unit(widths, "top", self.pooling.outputs, channels, 3)
        self.lateral = nn.ModuleList(
            _unit(widths, f"lateral.{level}", count, channels, 1) for level, count in enumerate(lower)
        )
        widths.added(self.top[0], *(unit[0] for unit in self.lateral))
        self.smooth = nn.ModuleList(
            _unit(widths, f"smooth.{level}", _outputs(unit), channels, 3) for level, unit in enumerate(self.lateral)
        )
        joined = sum(_outputs(unit) for unit in (*self.smooth, self.top))
        self.fuse = _unit(widths, "fuse", joined, channels, 3)
        self.dropout = nn.Dropout(0.1)
        self.logits = widths.classes("logits", _outputs(self.fuse), classes)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        *lower, top = stages
        pyramid = [self.top(self.pooling(top))]
        for unit, stage in zip(reversed(self.lateral), reversed(lower), strict=True):
            pyramid.insert(0, unit(stage) + _resized(pyramid[0], stage))
        levels = [unit(level) for unit, level in zip(self.smooth, pyramid, strict=False)]
        levels += [pyramid[-1]]
        return self.logits(self.dropout(self.fuse(torch.cat([_resized(x, levels[0]) for x in levels], 1))))


@network(
    "fcn-resnet18",
    input_shape=(3, 520, 520),
    classes=21,
    task="segmentation",
    parameters=11_769_301,
    macs=52_148_803_200,
    source="Long et al. 2015 on ResNet-18; numbers not published",
    depth=18,
)
@network(
    "fcn-resnet50",
    input_shape=(3, 520, 520),
    classes=21,
    task="segmentation",
    parameters=32_957_013,
    macs=142_725_772_800,
    source="Long et al. 2015; torchvision, with the auxiliary head: 35,322,218 parameters, 152.72 G MACs",
    depth=50,
)
def fcn(classes: int = 21, widths: Mapping[str, int] | None = None, depth: int = 50) -> SegmentationNetwork:
    """Build FCN on ResNet of stride 8. Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"fcn-resnet{depth}", widths)
    backbone = Trunk(table.at("backbone"), depth, output_stride=8)
    inputs = backbone.sources[-1].out_channels
    head = _fcn_head(table.at("classifier"), inputs, 512 if depth < 50 else 2048, classes)
    return table.checked(SegmentationNetwork(backbone, head))


@network(
    "pspnet-resnet18",
    input_shape=(3, 512, 512),
    classes=21,
    task="segmentation",
    parameters=12_622_293,
    macs=52_975_763_456,
    source="Zhao et al. 2017 on ResNet-18; numbers not published",
    depth=18,
)
@network(
    "pspnet-resnet50",
    input_shape=(3, 512, 512),
    classes=21,
    task="segmentation",
    parameters=46_592_597,
    macs=177_075_126_272,
    source="Zhao et al. 2017; "
    "Xie et al. 2021 (SegFormer), on ResNet-101 for 150 classes: 68.1 M parameters, 256.4 G MACs",
    depth=50,
)
def pspnet(classes: int = 21, widths: Mapping[str, int] | None = None, depth: int = 50) -> SegmentationNetwork:
    """Build PSPNet on ResNet of stride 8. Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"pspnet-resnet{depth}", widths)
    backbone = Trunk(table.at("backbone"), depth, output_stride=8)
    inputs = backbone.sources[-1].out_channels
    head = _psp_head(table.at("classifier"), inputs, 512 if depth < 50 else 2048, classes)
    return table.checked(SegmentationNetwork(backbone, head))


@network(
    "deeplabv3-resnet18",
    input_shape=(3, 520, 520),
    classes=21,
    task="segmentation",
    parameters=15_904_085,
    macs=69_050_556_672,
    source="Chen et al. 2017 on ResNet-18; numbers not published",
    depth=18,
)
@network(
    "deeplabv3-resnet50",
    input_shape=(3, 520, 520),
    classes=21,
    task="segmentation",
    parameters=39_638_869,
    macs=168_731_205_888,
    source="Chen et al. 2017; torchvision, with the auxiliary head: 42,004,074 parameters, 178.72 G MACs",
    depth=50,
)
def deeplabv3(classes: int = 21, widths: Mapping[str, int] | None = None, depth: int = 50) -> SegmentationNetwork:
    """Build DeepLabV3 on ResNet of stride 8. Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"deeplabv3-resnet{depth}", widths)
    backbone = Trunk(table.at("backbone"), depth, output_stride=8)
    inputs = backbone.sources[-1].out_channels
    head = _deeplab_head(table.at("classifier"), inputs, classes)
    return table.checked(SegmentationNetwork(backbone, head))


@network(
    "upernet-resnet18",
    input_shape=(3, 512, 512),
    classes=21,
    task="segmentation",
    parameters=40_789_077,
    macs=218_976_747_520,
    source="Xiao et al. 2018 on ResNet-18; numbers not published",
    depth=18,
)
@network(
    "upernet-resnet50",
    input_shape=(3, 512, 512),
    classes=21,
    task="segmentation",
    parameters=64_032_341,
    macs=235_524_849_664,
    source="Xiao et al. 2018; "
    "Liu et al. 2021 (Swin), on ResNet-101 for 150 classes: 86 M parameters, 1029 G MACs at 512x2048",
    depth=50,
)
def upernet(classes: int = 21, widths: Mapping[str, int] | None = None, depth: int = 50) -> SegmentationNetwork:
    """Build UPerNet on ResNet of stride 32. Raises `TrainwattError` where `widths` do not fit."""
    table = Widths(f"upernet-resnet{depth}", widths)
    backbone = Trunk(table.at("backbone"), depth)
    head = UPerHead(table.at("classifier"), [source.out_channels for source in backbone.sources], classes)
    return table.checked(SegmentationNetwork(backbone, head, all_stages=True))
