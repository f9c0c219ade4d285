"""How the cost of a mini-batch varies from one to the next where a technique leaves something to chance.

Two things may be random in a presented mini-batch, each independent of the other and of all other mini-batches:

* whether an op runs. One U, uniform in [0, 1), decides for all ops: an op of expected runs r executes floor(r) times,
  and once more where U < r - floor(r). That is exact for mini-batches that are dropped as a whole. An op that runs
  in every k-th mini-batch (an optimizer that accumulates) has the same distribution seen from any one mini-batch, but
  over a run its executions are certain and only seem random here, so that the spread of a run is an upper bound.
* how many instances go some way (`Share.varies`): N ~ Binomial(size of the whole, share), at least 1, where the whole
  may itself be such a count.

    cost = sum over ops i of executions_i(U) * cost_i(N_1, N_2, ...)

U is enumerated: cost is constant between neighbouring values of r. Counts are drawn, `POINTS` at a time by Latin
hypercube sampling [McKay, Beckman, Conover, Technometrics 21(2), 1979]: point j of a count is the quantile of its
binomial distribution at (pi(j) + 1/2) / POINTS, with pi a random permutation for each count. Each count so keeps its
own distribution up to 1/POINTS, and every drawn combination is priced as it is, kinks of the device model included;
a line through a few priced points would be as fast only where cost is linear in the counts, which it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from simulator.cost import Cost
from simulator.graph import Graph
from simulator.schedule import timeline
from simulator.work import Floats, Ints, Work

POINTS = 512
SEED = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, standard deviation and quantiles (5 %, 50 %, 95 %) of a quantity, all in its unit."""

    mean: float
    sd: float
    q05: float
    q50: float
    q95: float


@dataclass(frozen=True, eq=False)
class Distribution:
    """A random quantity: `values`, shape (points,), ascending, and how probable each is; `weights` add up to 1."""

    values: Floats
    weights: Floats

    @cached_property
    def mean(self) -> float:
        return float(self.weights @ self.values)

    @cached_property
    def variance(self) -> float:
        return float(self.weights @ (self.values - self.mean) ** 2)

    def quantile(self, probability: float) -> float:
        """Return the smallest value that is not exceeded with `probability`."""
        reached = int(np.searchsorted(np.cumsum(self.weights), probability - 1e-12))  # sums of weights are rounded
        return float(self.values[min(reached, len(self.values) - 1)])


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds and joules of one presented mini-batch, each as a random quantity."""

    latency_s: Distribution
    energy_j: Distribution


def stochastic(graph: Graph) -> bool:
    """Tell whether the cost of a mini-batch of `graph` is left to chance."""
    return varies(graph) or bool(np.any(_exact(np.array([op.runs for op in graph.ops])) % 1))


def varies(graph: Graph) -> bool:
    """Tell whether sizes in `graph` are left to chance."""
    return any(share.varies for share in graph.shares.values())


def executions(runs: Floats) -> Floats:
    """Return how often ops of expected `runs`, shape (ops,), execute in a mini-batch in which all execute that can."""
    return np.ceil(_exact(runs))


def drawn(graph: Graph) -> tuple[Mapping[str, Ints], Floats]:
    """Return sizes of every share at the points that stand for all that can occur, and the weights of the points.

    Sizes have shape (points,) each, as have the weights, which add up to 1. The same graph gives the same points.
    """
    random = np.random.default_rng(SEED)
    sizes: dict[str, Ints] = {name: np.full(POINTS, size, dtype=np.int64) for name, size in graph.sizes.items()}
    for name, share in graph.shares.items():
        if share.varies:
            level = (random.permutation(POINTS) + 0.5) / POINTS
            sizes[name] = _binomial_quantiles(sizes[share.of], share.share, level)
        else:
            sizes[name] = share.size(sizes[share.of])
    names = tuple(graph.shares)
    points, times = np.unique(np.array([sizes[name] for name in names]), axis=1, return_counts=True)
    return dict(zip(names, points, strict=True)), times / POINTS


def step_cost(work: Work, cost: Cost, weights: Floats | None = None) -> StepCost:
    """Return what a presented mini-batch costs, as distributions.

    `cost` prices `work`; both are evaluated at the points of `drawn`, of these `weights`, or at one point without.
    """
    runs = _exact(work.runs)
    certain, part = np.floor(runs), runs % 1
    levels = np.unique(part[part > 0])
    # One for each interval of U: below the first level everything executes, above the last only what is certain.
    executed = [certain + (part >= level) for level in levels] + [certain]
    latency, energy = zip(*[_executed(work, cost, times) for times in executed], strict=True)
    chance = np.diff(np.array([0.0, *levels, 1.0]))
    probability = np.outer(chance, np.ones(1) if weights is None else weights).ravel()
    return StepCost(
        latency_s=_sorted(np.array(latency).ravel(), probability),
        energy_j=_sorted(np.array(energy).ravel(), probability),
    )


def _executed(work: Work, cost: Cost, times: Floats) -> tuple[Floats, Floats]:
    """Return seconds and joules of a mini-batch in which the ops execute `times`, shape (ops,): () or (points,)."""
    by_row = np.bincount(work.row_of_op, weights=times, minlength=len(work.kernel))
    latency, energy = by_row @ cost.latency_s, by_row @ cost.energy_j
    if cost.dispatch_s is None:
        return latency, energy
    end = timeline(cost, work.row_of_op, times).step_s.sum(axis=0)
    return end, energy + cost.waiting_w * (end - latency)


def over(parts: Iterable[tuple[Distribution, int]]) -> Spread:
    """Return the sum of independent mini-batches: n of each distribution.

        mean = sum of n * mean,  variance = sum of n * variance

    The quantiles of a single mini-batch are its own, those of more are the normal distribution's (central limit
    theorem), within what can occur at all. They are approximate for fewer than some thirty mini-batches.
    """
    counted = [(one, n) for one, n in parts if n]
    mean = sum(n * one.mean for one, n in counted)
    sd = sum(n * one.variance for one, n in counted) ** 0.5
    if sum(n for _, n in counted) == 1:
        quantiles = [counted[0][0].quantile(p) for p in (0.05, 0.5, 0.95)]
    else:
        least, most = (sum(n * float(one.values[end]) for one, n in counted) for end in (0, -1))
        quantiles = [min(max(mean + sd * NormalDist().inv_cdf(p), least), most) for p in (0.05, 0.5, 0.95)]
    return Spread(mean, sd, *quantiles)


def _exact(runs: Floats) -> Floats:
    """Return `runs` without the rounding of products such as 3 * (1/3), which would count as a chance to run again."""
    return np.round(runs, 12)


def _sorted(values: Floats, weights: Floats) -> Distribution:
    order = np.argsort(values, kind="stable")
    return Distribution(values[order], weights[order])


def _binomial_quantiles(trials: Ints, share: float, level: Floats) -> Ints:
    """Return the smallest k >= 1 with P(Binomial(trials, share) <= k) >= level, shape (points,) as both arrays."""
    if share == 1:
        return trials
    found = np.empty_like(trials)
    for n in np.unique(trials).tolist():
        k = np.arange(n + 1)
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
        log_chance = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
        log_chance += k * np.log(share) + (n - k) * np.log1p(-share)
        here = trials == n
        found[here] = np.searchsorted(np.cumsum(np.exp(log_chance)), level[here])
    return np.clip(found, 1, trials)
