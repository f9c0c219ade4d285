"""AlexNet as in "One weird trick for parallelizing convolutional neural networks" (Krizhevsky 2014)."""

from collections.abc import Mapping

from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths


class AlexNet(nn.Module):
    """Maps images (N, 3, H, W), H and W at least 63, to logits (N, classes); modules as in torchvision."""

    def __init__(self, widths: Widths, classes: int) -> None:
        super().__init__()
        scope = widths.at("features")
        conv0 = scope.conv("0", 3, 64, 11, 4, padding=2, bias=True)
        conv3 = scope.conv("3", conv0.out_channels, 192, 5, bias=True)
        conv6 = scope.conv("6", conv3.out_channels, 384, 3, bias=True)
        conv8 = scope.conv("8", conv6.out_channels, 256, 3, bias=True)
        conv10 = scope.conv("10", conv8.out_channels, 256, 3, bias=True)
        self.features = nn.Sequential(
            conv0,
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            conv3,
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            conv6,
            nn.ReLU(inplace=True),
            conv8,
            nn.ReLU(inplace=True),
            conv10,
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(conv10.out_channels * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


@network(
    "alexnet",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=61_100_840,
    macs=714_188_480,
    source="Krizhevsky 2014 (arXiv 1404.5997); torchvision: 61,100,840 parameters, 0.71 G MACs",
)
def alexnet(classes: int = 1000, widths: Mapping[str, int] | None = None) -> AlexNet:
    """Build AlexNet for images (N, 3, 224, 224). Raises `TrainwattError` where `widths` do not fit."""
    table = Widths("alexnet", widths)
    return table.checked(AlexNet(table, classes))
