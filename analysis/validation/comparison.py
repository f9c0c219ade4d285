"""A predicted and a measured number of one thing, and what many of them say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

CLOSE = 0.10
"""A prediction within a tenth of what was measured counts as close."""

UNITS = {"latency": "s", "speedup": "1", "peak_memory": "byte", "energy": "J", "op latency": "s"}
"""What is compared, in the order of reports, and its unit. A speedup is latency without by latency with a technique."""


@dataclass(frozen=True)
class Comparison:
    """`quantity` of `what` (a network, or an op with its parameters) at a batch size with `technique` ("" is none).

    `spread` is the interquartile range of the measured value in its unit, None where it is not known; `low` and `high`
    is where the device's calibration expects the measured value, None where it does not say.
    """

    quantity: str
    what: str
    batch: int | None
    technique: str
    setting: str
    measured: float
    predicted: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1

    @property
    def told(self) -> bool:
        """Tell whether a speedup was measured that is not 1 within half its spread on either side."""
        return abs(self.measured - 1) > (self.spread or 0.0) / 2

    @property
    def sign_right(self) -> bool:
        """Tell whether a speedup was predicted on the side of 1 where it was measured."""
        return (self.predicted > 1) == (self.measured > 1)


@dataclass(frozen=True)
class Summary:
    """What comparisons of one quantity say together. `sign_right` and `signs`: of the speedups that are told from 1,
    how many have the right sign, and how many there are; `correlation` is Spearman's, None below 3 values."""

    quantity: str
    count: int
    mean_error: float
    median_error: float
    worst: Comparison
    close: int
    signs: int
    sign_right: int
    correlation: float | None


def summary(quantity: str, compared: Sequence[Comparison]) -> Summary:
    """Return the summary of comparisons, at least one, all of `quantity`."""
    errors = [abs(one.error) for one in compared]
    told = [one for one in compared if quantity == "speedup" and one.told]
    return Summary(
        quantity=quantity,
        count=len(compared),
        mean_error=fmean(errors),
        median_error=median(errors),
        worst=max(compared, key=lambda one: abs(one.error)),
        close=sum(error <= CLOSE for error in errors),
        signs=len(told),
        sign_right=sum(one.sign_right for one in told),
        correlation=_spearman([one.measured for one in compared], [one.predicted for one in compared]),
    )


def summaries(compared: Sequence[Comparison]) -> list[Summary]:
    """Return a summary of each quantity that is compared, in the order of `UNITS`."""
    by_quantity = {name: [one for one in compared if one.quantity == name] for name in UNITS}
    return [summary(name, found) for name, found in by_quantity.items() if found]


def relative(spread: float | None, value: float) -> float | None:
    """Return a spread as a share of its value."""
    return None if spread is None else spread / value


def ratio_spread(ratio: float, first: float | None, second: float | None) -> float | None:
    """Return the spread of a ratio of two values with these relative spreads, taken as independent."""
    return None if first is None or second is None else ratio * math.hypot(first, second)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
