"""What came out of training: loss, accuracy, seconds and MACs of each mini-batch, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from statistics import fmean

from simulator.techniques import Technique

LAST_SHARE = 0.1
"""The share of the steps, at the end, whose mean loss is the final one."""
TRIMMED_SHARE = 0.05
"""The share of the seconds that is left out at either end of a mean: a machine does other things too."""


@dataclass(frozen=True)
class Score:
    """How a model does on the test data: mean cross-entropy, and the share of right answers."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Batch:
    """What became of one presented mini-batch.

    `loss` is None where a technique dropped it. Where its MACs were counted (`macs`) it was not timed, and the other
    way round (`seconds`); the first one that runs is always counted, so that nothing of a start is timed.
    """

    loss: float | None
    seconds: float | None
    macs: int | None

    @property
    def executed(self) -> bool:
        """Whether it was trained on."""
        return self.loss is not None


@dataclass(frozen=True)
class Run:
    """One training run: plain where `techniques` is empty.

    `techniques` hold the parameters that the data decided as they turned out, `before` and `after` the score on the
    test data, `batches` all mini-batches in the order in which they were presented.
    """

    techniques: tuple[Technique, ...]
    before: Score
    after: Score
    batches: tuple[Batch, ...]

    @property
    def executed(self) -> int:
        """The number of mini-batches that were trained on."""
        return sum(batch.executed for batch in self.batches)

    @property
    def losses(self) -> list[float]:
        """The training loss of each mini-batch that was trained on."""
        return [batch.loss for batch in self.batches if batch.loss is not None]

    @property
    def final_loss(self) -> float | None:
        """The mean training loss over the last tenth of the executed steps; None where none was."""
        losses = self.losses
        return fmean(losses[-max(1, round(LAST_SHARE * len(losses))) :]) if losses else None

    @property
    def diverged_at(self) -> int | None:
        """The first executed step whose training loss is not finite; None where all are."""
        return next((number for number, loss in enumerate(self.losses) if not isfinite(loss)), None)

    @cached_property
    def step_seconds(self) -> list[float]:
        """The seconds of each timed step that was executed, sorted."""
        return sorted(batch.seconds for batch in self.batches if batch.executed and batch.seconds is not None)

    @property
    def batch_seconds(self) -> float | None:
        """The mean seconds of a presented mini-batch, dropped ones included; None where none was timed.

        The timed ones are a sample, so that is share executed * trimmed mean of the executed ones + share dropped *
        trimmed mean of the dropped ones.
        """
        return self._mean_of_batches(lambda batch: batch.seconds, trimmed_mean)

    @property
    def batch_macs(self) -> float | None:
        """The mean executed MACs of a presented mini-batch, dropped ones included; None where none was counted."""
        return self._mean_of_batches(lambda batch: batch.macs, fmean)

    def _mean_of_batches(
        self, value: Callable[[Batch], float | None], mean: Callable[[Sequence[float]], float]
    ) -> float | None:
        total = 0.0
        for executed in (True, False):
            group = [batch for batch in self.batches if batch.executed == executed]
            values = [v for batch in group if (v := value(batch)) is not None]
            if group and not values and executed:
                return None
            # Dropped batches of which none was sampled did, as far as can be told, nothing.
            total += len(group) / len(self.batches) * (mean(values) if values else 0.0)
        return total if self.batches else None


@dataclass(frozen=True)
class Trial:
    """Runs from the same weights (those of `seed`) on the same mini-batches.

    `interrupted` says that they ended before their last step.
    """

    seed: int
    runs: tuple[Run, ...]
    interrupted: bool


def trimmed_mean(values: Sequence[float]) -> float:
    """Return the mean of `values` without the smallest and the largest twentieth (`TRIMMED_SHARE`) of them."""
    cut = int(TRIMMED_SHARE * len(values))
    return fmean(sorted(values)[cut : len(values) - cut])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of sorted `values` lies below, interpolated; `share` 0.5 is the median."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
