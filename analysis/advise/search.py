"""Finding a configuration that meets budgets: from plain training on, in order of how far it departs from that.

1. `exact`: plain training at each batch size; where memory is exceeded, with several passes an update or recomputation.
2. `partial`: parts of the network trained, down a ladder, alone, with frozen batch norms, and with these folded.
3. `approximate`: each approximation alone, and what is published for the network; then the best configurations so far,
   each with one more approximation, `ROUNDS` times.

For the objective `accurate` the search ends with the first of these in which a configuration meets the budgets; for the
others all are searched. What is best is then completed with exact techniques that make it cheaper still. Prices come
in columns, a composition at all batch sizes at once; memory there is live tensors, a lower bound, and a configuration
is chosen only once `trainwatt estimate` itself confirms it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from analysis.advise.budgets import Budget, exceeded, excess
from analysis.advise.candidate import Candidate, Pricer
from analysis.advise.facts import Accuracy, accuracy, published
from analysis.advise.levels import LEVELS, in_order, level, level_of
from analysis.advise.objective import OBJECTIVES, Key
from analysis.advise.relief import Relief
from analysis.advise.settings import ladder, settings
from simulator.techniques import Technique, parse, techniques

ROUNDS = 2
BEAM = 6
"""Configurations that are extended in each round."""

CONFIRMED = 12
"""Candidates of a stage whose memory is confirmed before the stage counts as failed."""

Composition = tuple[Technique, ...]


@dataclass(frozen=True)
class Rules:
    """What the user wants: the highest `level` accepted, the share of accuracy to keep (None: any), the objective, and
    the techniques that may be used (None: all of the level)."""

    level: int
    kept: float | None
    objective: str
    allowed: frozenset[str] | None


@dataclass
class Search:
    """A search under way. `seen` is every configuration that was priced and accepted, in the order of pricing."""

    pricer: Pricer
    budgets: tuple[Budget, ...]
    rules: Rules
    relief: Relief
    seen: dict[str, Candidate] = field(default_factory=dict)

    def best(self) -> Candidate | None:
        """Return the best configuration that meets the budgets, None where none was found."""
        found: list[Candidate] = []
        for stage in (self._exact, self._partial, self._approximate, *[self._extended] * ROUNDS):
            chosen = self._chosen(self._priced(stage()))
            if chosen is not None:
                finer = self._chosen(self._priced(self._finer(chosen.techniques)))
                found += [chosen] if finer is None else [chosen, finer]
                if self.rules.objective == "accurate":
                    break
        return self._completed(min(found, key=self.key)) if found else None

    def key(self, candidate: Candidate) -> Key:
        """Return what orders candidates, the best first."""
        return OBJECTIVES[self.rules.objective](candidate, self.pricer.graph.batch)

    def allows(self, name: str) -> bool:
        """Tell whether a technique may be used."""
        chosen = self.rules.allowed is None or name in self.rules.allowed
        return chosen and LEVELS.index(level_of(name)) <= self.rules.level

    def _keeps(self, known: Accuracy) -> bool:
        return self.rules.kept is None or (known.kept is not None and known.kept >= self.rules.kept)

    def _priced(self, compositions: Iterable[Composition]) -> list[Candidate]:
        found = []
        for composition in compositions:
            if all(self.allows(t.name) for t in composition) and self._keeps(
                accuracy(self.pricer.network, composition)
            ):
                found += self._remembered(self.pricer.candidates(in_order(composition)))
        return found

    def _remembered(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        found = list(candidates)
        self.seen |= {_name(candidate): candidate for candidate in found}
        return found

    def _meets(self, candidate: Candidate) -> bool:
        return not exceeded(self.budgets, candidate.values)

    def _chosen(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Return the best of `candidates`, or of what relieves their memory, that meets the budgets once confirmed."""
        found = self._confirmed(candidates)
        for candidate in self._wanting(candidates):
            if found is not None and self.key(candidate) >= self.key(found):
                continue
            relieved = self._confirmed(self._remembered(self.relief.of(candidate, self.budgets, self.allows)))
            if relieved is None:
                break
            found = min([c for c in (found, relieved) if c is not None], key=self.key)
        return found

    def _wanting(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return candidates that lack nothing but memory: the best one, or of each batch size, from small to large."""
        best: dict[int, Candidate] = {}
        for candidate in sorted((c for c in candidates if self._lacks_memory_only(self.seen[_name(c)])), key=self.key):
            best.setdefault(candidate.batch, candidate)
        if self.rules.objective == "largest-batch":
            return [best[batch] for batch in sorted(best)]
        return list(best.values())[:1]

    def _confirmed(self, candidates: Iterable[Candidate]) -> Candidate | None:
        hopeful = sorted((c for c in candidates if self._meets(c)), key=self.key)
        for candidate in hopeful[:CONFIRMED]:
            confirmed = self.pricer.confirm(candidate)
            self.seen[_name(candidate)] = confirmed
            if self._meets(confirmed):
                return confirmed
        return None

    def _lacks_memory_only(self, candidate: Candidate) -> bool:
        return [budget.name for budget in exceeded(self.budgets, candidate.values)] == ["memory"]

    def _completed(self, chosen: Candidate) -> Candidate:
        """Return the candidate with the exact techniques that take no choice and make every epoch of it cheaper."""
        for name in ("channels-last", "fuse"):
            if not self.allows(name) or name in {t.name for t in chosen.techniques}:
                continue
            longer = in_order((*chosen.techniques, *parse(name)))
            for candidate in self.pricer.candidates(longer):
                spans = ("time per epoch", "energy per epoch")
                cheaper = all(candidate.values[span] < 0.999 * chosen.values[span] for span in spans)
                if candidate.batch == chosen.batch and cheaper:
                    chosen = self._confirmed(self._remembered([candidate])) or chosen
        return chosen

    # -- what is tried ---------------------------------------------------------------------------------------------

    def _exact(self) -> Iterator[Composition]:
        yield ()
        yield parse("channels-last")

    def _partial(self) -> Iterator[Composition]:
        companions = ((), parse("freeze-bn"), parse("freeze-bn{affine=false},fuse"))
        scopes = [parse(f"sparse-update{{last={n}}}") for n in ladder(len(self.pricer.layers))]
        for scope in (*scopes, parse("sparse-update{parameters=biases}"), *self._published("partial")):
            yield from ((*scope, *companion) for companion in companions)
        yield parse("freeze-bn")

    def _approximate(self) -> Iterator[Composition]:
        yield from self._published("approximate")
        yield from ((technique,) for technique in self._approximations())

    def _extended(self) -> Iterator[Composition]:
        """Yield the least excessive compositions so far, each with each approximation at its strongest setting."""
        by_excess = sorted(self.seen.values(), key=lambda c: (excess(self.budgets, c.values), self.key(c)))
        beam = list(dict.fromkeys(c.techniques for c in by_excess))[:BEAM]
        strongest: dict[str, Technique] = {}
        for candidate in by_excess:
            if len(candidate.techniques) == 1 and candidate.level >= LEVELS.index("approximate"):
                strongest.setdefault(candidate.techniques[0].name, candidate.techniques[0])
        for composition in beam:
            names = {t.name for t in composition}
            yield from ((*composition, t) for name, t in strongest.items() if name not in names)

    def _finer(self, composition: Composition) -> Iterator[Composition]:
        """Yield a composition with other settings: each number of last layers up to the next rung of the ladder, and
        other settings of an approximation, of which a weaker one may do."""
        for k, technique in enumerate(composition):
            if LEVELS.index(level_of(technique.name)) >= LEVELS.index("approximate"):
                for other in settings(type(technique), len(self.pricer.layers)):
                    yield (*composition[:k], other, *composition[k + 1 :])
            last = getattr(technique, "last", None)
            if last is None:
                continue
            above = min((n for n in ladder(len(self.pricer.layers)) if n > last), default=last)
            for n in range(last + 1, above):
                yield (*composition[:k], replace(technique, last=n), *composition[k + 1 :])  # type: ignore[type-var]

    def _published(self, of_level: str) -> Iterator[Composition]:
        yield from (t for t in published(self.pricer.network) if level(t) == LEVELS.index(of_level))

    def _approximations(self) -> Iterator[Technique]:
        for name, cls in techniques().items():
            if self.allows(name) and LEVELS.index(level_of(name)) >= LEVELS.index("approximate"):
                yield from settings(cls, len(self.pricer.layers))


def _name(candidate: Candidate) -> str:
    return f"{candidate.batch} " + ",".join(map(str, candidate.techniques))
