"""Prediction intervals from errors on what was held out.

With n errors e of points that were held out, the interval of coverage c around a prediction p is p exp(+-q), q the
ceil((n + 1) c)-th smallest |e| (split conformal prediction; Vovk, Gammerman & Shafer 2005, Lei et al. 2018). It covers
at least c of new points where these are to the fit what the held-out ones were: other networks where networks were held
out, other shapes where ops were.
"""

from __future__ import annotations

import math

import numpy as np

from hwmodels.corrected.model import Interval
from simulator.work import Floats, Ints

COVERAGE = 0.9


def interval_of(errors: Floats, coverage: float = COVERAGE) -> Interval | None:
    """Return the interval that held-out log-errors give; None where they are too few for such a coverage."""
    place = math.ceil((len(errors) + 1) * coverage)
    if place > len(errors):
        return None
    q = float(np.sort(np.abs(errors))[place - 1])
    return Interval(coverage, math.exp(-q), math.exp(q))


def covered(errors: Floats, group: Ints, coverage: float = COVERAGE) -> float | None:
    """Return the share of points within the interval that the other groups' errors give, over all groups.

    None where there are too few of them.
    """
    inside: list[bool] = []
    for code in np.unique(group):
        own = group == code
        found = interval_of(errors[~own], coverage)
        if found is not None:
            inside += (np.abs(errors[own]) <= math.log(found.high)).tolist()
    return float(np.mean(inside)) if inside else None
