"""LeNet-5 (LeCun et al. 1998)."""

from collections.abc import Mapping

from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths


class LeNet5(nn.Module):
    """Maps images (N, 1, 28, 28) to logits (N, classes).

    As the paper, but for the usual simplifications: every map of the second convolution sees all maps of
    the first, subsampling has no coefficients, and the last layer is linear. The first convolution pads
    the image to the paper's 32x32.
    """

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        conv1 = widths.conv("features.0", 1, 6, 5, bias=True)
        conv2 = widths.conv("features.3", conv1.out_channels, 16, 5, padding=0, bias=True)
        self.features = nn.Sequential(conv1, nn.Tanh(), nn.AvgPool2d(2), conv2, nn.Tanh(), nn.AvgPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(conv2.out_channels * 5 * 5, 120),
            nn.Tanh(),
            nn.Linear(120, 84),
            nn.Tanh(),
            nn.Linear(84, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))


@network(
    "lenet5",
    input_shape=(1, 28, 28),
    classes=10,
    parameters=61_706,
    macs=416_520,
    source="LeCun et al. 1998: about 60,000 parameters; 61,706 with the usual dense second convolution",
)
def lenet5(classes: int = 10, widths: Mapping[str, int] | None = None) -> LeNet5:
    """Build LeNet-5 for images (N, 1, 28, 28). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths("lenet5", widths)
    return table.checked(LeNet5(table, classes))
