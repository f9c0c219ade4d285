"""A classifier of sequences with long short-term memory (Hochreiter and Schmidhuber 1997)."""

from collections.abc import Mapping

from torch import Tensor, nn

from workloads.catalog import network
from workloads.networks.widths import Widths


class LSTMClassifier(nn.Module):
    """Maps sequences (N, steps, features) to logits (N, classes), read off the last step."""

    def __init__(self, features: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, sequences: Tensor) -> Tensor:
        outputs, _ = self.lstm(sequences)
        return self.fc(outputs[:, -1])


@network(
    "lstm",
    input_shape=(128, 64),
    classes=10,
    parameters=858_634,
    macs=109_054_464,
    source="our own: two layers (Hochreiter and Schmidhuber 1997) of 256 units; numbers not published",
)
def lstm(
    classes: int = 10,
    widths: Mapping[str, int] | None = None,
    features: int = 64,
    hidden: int = 256,
    layers: int = 2,
) -> LSTMClassifier:
    """Build the classifier for sequences (N, steps, features).

    Raises `TrainwattError` for any entry in `widths`, as there are no convolutions.
    """
    return Widths("lstm", widths).checked(LSTMClassifier(features, hidden, layers, classes))
