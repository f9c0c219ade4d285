"""A network of the size and kind of MCUNet (Lin et al. 2020); not one of its published architectures."""

from collections.abc import Mapping

from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.mobilenetv2 import InvertedResidual, activated
from workloads.networks.widths import Widths

# Expansion, kernel, output channels and stride of each block.
_BLOCKS = (
    (1, 3, 8, 1),
    (3, 7, 16, 2),
    (6, 3, 16, 1),
    (6, 5, 16, 1),
    (6, 7, 24, 2),
    (6, 3, 24, 1),
    (6, 5, 24, 1),
    (6, 3, 40, 2),
    (5, 7, 40, 1),
    (4, 5, 40, 1),
    (5, 5, 48, 1),
    (4, 3, 48, 1),
    (6, 7, 96, 2),
    (5, 5, 96, 1),
    (4, 3, 96, 1),
    (5, 7, 160, 1),
)


class MCUNetLike(nn.Module):
    """Maps images (N, 3, 176, 176) to logits (N, classes) by inverted bottlenecks of mixed kernels."""

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        source, channels = widths.conv("stem.0", 3, 16, 3, 2), 16
        self.stem = activated(source)
        blocks = []
        for index, (expansion, kernel, outputs, stride) in enumerate(_BLOCKS):
            scope = widths.at(f"blocks.{index}")
            block = InvertedResidual(
                scope, source, channels, outputs, stride=stride, expansion=expansion, kernel=kernel
            )
            blocks.append(block)
            source, channels = blocks[-1].output, outputs
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(source.out_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.blocks(self.stem(images))).flatten(1))


@network(
    "mcunet-like",
    input_shape=(3, 176, 176),
    classes=1000,
    parameters=693_488,
    macs=71_588_608,
    source="our own, in the size of MCUNet (Lin et al. 2020) for 1 MB of flash; numbers not published",
)
def mcunet_like(classes: int = 1000, widths: Mapping[str, int] | None = None) -> MCUNetLike:
    """Build the network for images (N, 3, 176, 176). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths("mcunet-like", widths)
    return table.checked(MCUNetLike(table, classes))
