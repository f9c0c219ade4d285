"""Which points promise most: how much more hypervolume they would dominate, counted on random draws.

    gain(p) = share of draws u, uniform between the ideal and the reference, that p dominates and nothing known does

The share is unbiased in any number of objectives. Points of a batch are chosen one after another, each for what those
before it leave.
"""

from __future__ import annotations

import numpy as np

from analysis.explore.pareto import Floats, front
from simulator.work import Ints

_DRAWS = 8192
_CANDIDATES = 512


def best(known: Floats, hoped: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Return the places in `hoped` of up to `count` points with the largest gain over `known`.

    Both are of shape (points, objectives); less is better. The reference is the worst of `known`, or of `hoped` where
    nothing is known. Where no candidate gains, ones on the front of what is left are taken at random.
    """
    if not len(hoped):
        return np.zeros(0, dtype=np.int64)
    chosen: list[int] = []
    open_ = np.ones(len(hoped), dtype=np.bool_)
    worst = (known if len(known) else hoped).max(axis=0)
    ideal = np.minimum(hoped.min(axis=0), known.min(axis=0) if len(known) else np.inf)
    draws = ideal + rng.random((_DRAWS, hoped.shape[1])) * (worst - ideal)
    for point in known[front(known)] if len(known) else known:
        draws = draws[~(point <= draws).all(axis=1)]
    shortlist = _shortlist(hoped, rng)
    covers = np.stack([(hoped[place] <= draws).all(axis=1) for place in shortlist])
    while len(chosen) < min(count, len(hoped)):
        gain = covers.sum(axis=1)
        at = int(gain.argmax()) if len(gain) else -1
        if at >= 0 and gain[at] > 0:
            place = int(shortlist[at])
            covers = covers[:, ~covers[at]]
        else:
            rest = np.flatnonzero(open_)
            place = int(rng.choice(rest[front(hoped[rest])]))
        open_[place] = False
        chosen.append(place)
    return np.array(chosen, dtype=np.int64)


def _shortlist(hoped: Floats, rng: np.random.Generator) -> Ints:
    """Return candidates on the front of what is hoped: no other gains more than each of them."""
    places = np.flatnonzero(front(hoped))
    return places if len(places) <= _CANDIDATES else np.sort(rng.choice(places, _CANDIDATES, replace=False))
