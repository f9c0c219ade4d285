"""Measurements as a fit sees them: what was run, as columns of work, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.errors import TrainwattError
from simulator.work import Floats, Work


@dataclass(frozen=True)
class Measured:
    """What one graph took at each of its points: `seconds`, shape (points,), of `work`, whose columns have shape
    (rows, points); or a single time, shape (), of work whose columns have shape (rows,).

    Points are batch sizes. `network` names what is held out together, `variant` tells its graphs apart (pruned
    differently, one phase of a step), `label` says what it is in tables and pictures.

    Raises `TrainwattError` on construction where shapes differ or a time is not a finite number above 0.
    """

    work: Work
    seconds: Floats
    network: str
    variant: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        if self.work.macs.shape[1:] != self.seconds.shape:
            raise TrainwattError(
                f"{self.seconds.size} times for work of shape {self.work.macs.shape}; give one for each point"
            )
        if not (np.isfinite(self.seconds).all() and (self.seconds > 0).all()):
            raise TrainwattError(f"a time of {self.network} that is no finite number above 0; leave it out")
