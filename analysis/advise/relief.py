"""Less memory for a configuration that needs too much, with the same gradients: recomputation, several passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from analysis.advise.budgets import Budget
from analysis.advise.candidate import Candidate, Pricer
from analysis.advise.levels import in_order
from analysis.advise.remat_effects import Effects, effects
from analysis.advise.rematerialisation import Plan, cheapest, smallest
from simulator.memory import replay
from simulator.techniques import Technique, apply
from simulator.techniques.accumulate import Accumulate

TRIED = 6
"""Bounds on live memory that are tried where a caching allocator reserves more than is live."""

CLOSE = 0.01
"""Share of the budget by which bounds differ at least."""


@dataclass
class Relief:
    """Makes the variants of a configuration that need less memory. `plans` are the plans of recomputation found."""

    pricer: Pricer
    extra: Literal["time", "energy"]
    plans: dict[tuple[Technique, ...], Plan] = field(default_factory=dict)
    _effects: dict[str, Effects] = field(default_factory=dict)

    def of(
        self, candidate: Candidate, budgets: Sequence[Budget], allows: Callable[[str], bool]
    ) -> tuple[Candidate, ...]:
        """Return variants of `candidate` that need less memory: those that fit the budget, or the smallest."""
        limit = min(budget.limit for budget in budgets if budget.name == "memory")
        names = {technique.name for technique in candidate.techniques}
        found: list[Candidate] = []
        if allows("accumulate") and "accumulate" not in names:
            found += self._accumulated(candidate, limit)
        if allows("recompute") and "recompute" not in names:
            found += self._recomputed(candidate, limit)
        return tuple(found)

    def _accumulated(self, candidate: Candidate, limit: float) -> list[Candidate]:
        """Return the update in 2, 4, 8, ... passes over as many samples together, from the first that fits on."""
        passes, smallest = 2, list[Candidate]()
        while candidate.batch % passes == 0:
            techniques = in_order((*candidate.techniques, Accumulate(steps=passes)))
            each = np.array([candidate.batch // passes], dtype=np.int64)
            for found in map(self.pricer.confirm, self.pricer.candidates(techniques, each)):
                smallest = [found]
                if found.memory_bytes <= limit:
                    return smallest
            passes *= 2
        return smallest

    def _recomputed(self, candidate: Candidate, limit: float) -> list[Candidate]:
        """Return the configuration with the cheapest plan found whose memory is confirmed to fit, or the smallest plan.

        The solver bounds live memory. Where what must fit is more than that (segments of a caching allocator, runs of
        blocks that interact), lower bounds are tried: first by as much as was lacking, then halfway between what fits
        and what does not. Each plan is then the cheapest for its own live memory.
        """
        made = self.effects_of(candidate)
        least = smallest(made)
        best = self._with(candidate, least)
        if best.memory_bytes > limit:
            return [best]
        low, high, bound = float(least.peak_bytes), limit, limit
        for _ in range(TRIED):
            plan = cheapest(made, bound, self.extra)
            found = best if plan is None else self._with(candidate, plan)
            lacking = found.memory_bytes - limit
            if plan is None or lacking <= 0:
                best, low = found, max(low, bound)
                bound = (low + high) / 2
            else:
                high = float(plan.peak_bytes)
                bound = high - lacking if high - lacking > low else (low + high) / 2
            if high - low < CLOSE * limit:
                break
        return [best]

    def _with(self, candidate: Candidate, plan: Plan) -> Candidate:
        """Return the candidate with a plan, confirmed; a plan of nothing leaves it as it is."""
        if plan.technique is None:
            return self.pricer.confirm(candidate)
        techniques = (*candidate.techniques, plan.technique)
        graph = apply(techniques, self.pricer.graph.rebatch(candidate.batch)).worst()
        peak = replay(graph, self.pricer.model.workspace_bytes(graph)).peak_bytes
        self.plans[techniques] = replace(plan, replayed=peak)
        (priced,) = self.pricer.candidates(techniques, np.array([candidate.batch], dtype=np.int64))
        return self.pricer.confirm(priced)

    def effects_of(self, candidate: Candidate) -> Effects:
        """Return what recomputing each run of blocks would do to a configuration."""
        key = f"{candidate.batch} " + ",".join(map(str, candidate.techniques))
        if key not in self._effects:
            graph = apply(candidate.techniques, self.pricer.graph.rebatch(candidate.batch))
            self._effects[key] = effects(graph, self.pricer.model)
        return self._effects[key]
