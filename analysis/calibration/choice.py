"""What a fit may move, as held-out error says: few terms that all ops share, or more that go by shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from analysis.calibration.basis import GROUPS
from analysis.calibration.fit import Terms, fit, seconds_on
from analysis.calibration.observed import Observed
from analysis.calibration.parameters import Parameters
from simulator.cost import HardwareModel
from simulator.work import Floats, Ints

CLEARLY = 0.9
"""At most this share of the held-out error is clearly less."""
MOST_POINTS = 1000
"""The choice is made on at most so many points: a fit costs their cube."""
FOLDS = 5
MOST_GROUPS = 8
FEWEST_POINTS = 8
"""With fewer points nothing can be held out, and all terms are left to their priors."""


def choose(base: HardwareModel | Parameters, seen: Observed) -> Terms:
    """Return the terms of least mean |log error| on points that were held out, and the device's own numbers where they
    help.

    Of those that nothing is clearly better than, these are the fewest where whole networks are held out, as few
    networks tell little of what goes beyond them. Else they are the most: priors hold all groups back already.

    Whole steps and single ops count half each where there are both.
    """
    seen = _some(seen)
    folds = [list(folds_of(seen, part)) for part in parts_of(seen) if len(part) >= FEWEST_POINTS]
    if not folds:
        return Terms(numbers=False, groups=GROUPS[:4])

    def error(terms: Terms) -> float:
        known = fit(base, seen, terms=terms).spreads
        errors = [np.concatenate([held_out(base, seen, out, terms, known) for out in part]) for part in folds]
        return float(np.mean([np.abs(part).mean() for part in errors]))

    sizes = range(1, len(GROUPS) + 1) if by_network(seen) else range(len(GROUPS), 0, -1)
    errors = {terms: error(terms) for terms in (Terms(False, GROUPS[:n]) for n in sizes)}
    best = nearly_best(errors)
    richer = Terms(numbers=True, groups=best.groups)
    return richer if isinstance(base, Parameters) and error(richer) < errors[best] else best


def nearly_best(errors: Mapping[Terms, float]) -> Terms:
    """Return the first of the terms that none are clearly better than, by their held-out errors."""
    least = min(errors.values())
    return next(terms for terms, found in errors.items() if least >= CLEARLY * found)


def _some(seen: Observed) -> Observed:
    """Return at most so many of the points, evenly over their order."""
    if len(seen) <= MOST_POINTS:
        return seen
    return seen.select(np.unique(np.linspace(0, len(seen) - 1, MOST_POINTS).round().astype(np.int64)))


def held_out(
    base: HardwareModel | Parameters, seen: Observed, out: Ints, terms: Terms, known: Mapping[str, float]
) -> Floats:
    """Return log predicted - log measured of the points `out`, fitted to all others with the `known` spreads."""
    kept = np.setdiff1d(np.arange(len(seen)), out)
    fitted = fit(base, seen.select(kept), terms=terms, known=known)
    test = seen.select(out)
    return np.log(seconds_on(fitted.model, test)) - np.log(test.seconds)


def parts_of(seen: Observed) -> list[Ints]:
    """Return the points of whole steps and those of single ops, as far as there are any."""
    return [np.flatnonzero(mask) for mask in (~seen.is_op, seen.is_op) if mask.any()]


def by_network(seen: Observed) -> bool:
    """Tell whether networks are held out whole: there are steps of three to eight."""
    return 3 <= len(np.unique(seen.network[~seen.is_op])) <= MOST_GROUPS


def folds_of(seen: Observed, part: Ints) -> Iterator[Ints]:
    """Yield those of the points `part` that are held out together: the steps of a network where there are three to
    eight, or of a graph; of more graphs, and of ops, a fifth, drawn once and for all."""
    if not seen.is_op[part].any():
        for code in (seen.network[part], seen.graph[part]):
            groups = np.unique(code)
            if 3 <= len(groups) <= MOST_GROUPS:
                yield from (part[code == group] for group in groups)
                return
        graphs = np.random.default_rng(0).permutation(np.unique(seen.graph[part]))
        if len(graphs) > MOST_GROUPS:  # whole ones, as other sizes of a graph would tell too much
            yield from (part[np.isin(seen.graph[part], some)] for some in np.array_split(graphs, FOLDS))
            return
    yield from np.array_split(np.random.default_rng(0).permutation(part), min(FOLDS, len(part)))
