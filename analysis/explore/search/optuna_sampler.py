"""Samplers of Optuna, an optional extra: a study for each group of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.explore.search.axes import TECHNIQUE, Axes, Levels
from analysis.explore.search.observed import Observed
from analysis.explore.search.sampler import Sampler
from simulator.errors import TrainwattError
from simulator.work import Floats, Ints

if TYPE_CHECKING:
    import optuna

NAMES = ("tpe", "nsga2", "nsga3")

_TRIES = 20
"""Proposals for each new point, before one is drawn at random: late in a search most are of points known."""

_TINY = 1e-12


class OptunaSampler(Sampler):
    """Proposes what the sampler `name` of Optuna does, with the network, family, setting, device and batch size as
    parameters."""

    def __init__(self, axes: Axes, seed: int, name: str, objectives: int) -> None:
        super().__init__(axes, seed)
        self._name, self._objectives = name, objectives
        self._studies: dict[int, optuna.Study] = {}
        self._waiting: dict[int, list[optuna.Trial]] = {}
        self._known: dict[int, tuple[list[float], list[float]]] = {}

    def recall(self, batch: int, points: Ints, pending: Ints) -> None:
        again = self.ask(batch, len(points), pending)  # a sampler's state is in what it was asked
        if not np.array_equal(again, points):
            raise TrainwattError(
                f"Optuna proposes other points than in the run before, in batch {batch}; "
                "use the version it began with, or --fresh"
            )

    def tell(self, found: Observed) -> None:
        values, known = _wide(found.objectives), found.known
        for place, point in enumerate(found.points.tolist()):
            self._known[point] = (values[place].tolist(), found.excess[place].tolist()) if known[place] else ([], [])
            for trial in self._waiting.pop(point, ()):
                self._answer(self._studies[int(self.axes.group_of(np.array([point]))[0])], trial, point)

    def _choose(self, group: int, count: int, pending: Ints, rng: np.random.Generator) -> Ints:
        study, levels = self._study(group), self.axes.group(group)
        chosen: list[int] = []
        for _ in range(_TRIES * count):
            if len(chosen) == count:
                break
            trial = study.ask()
            point = int(self.axes.points(_suggested(trial, self.axes, levels)[None, :])[0])
            if point in self._known:
                self._answer(study, trial, point)
                continue
            if point not in self._waiting:
                chosen.append(point)
            self._waiting.setdefault(point, []).append(trial)
        found = np.array(chosen, dtype=np.int64)
        rest = self.at_random(group, 2 * count, rng)
        return np.concatenate([found, rest[~np.isin(rest, found)][: count - len(found)]])

    def _answer(self, study: optuna.Study, trial: optuna.Trial, point: int) -> None:
        from optuna.trial import TrialState

        values, excess = self._known[point]
        if not values:
            study.tell(trial, state=TrialState.FAIL)
            return
        for bound, value in enumerate(excess):
            trial.set_constraint(f"bound{bound}", value)
        study.tell(trial, values)

    def _study(self, group: int) -> optuna.Study:
        if group not in self._studies:
            optuna = imported()
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            seed = int(np.random.SeedSequence([self.seed, group]).generate_state(1)[0])
            directions = ["minimize"] * self._objectives
            self._studies[group] = optuna.create_study(directions=directions, sampler=_made(self._name, seed))
        return self._studies[group]


def imported() -> Any:
    """Return the module of Optuna. Raises `TrainwattError` where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise TrainwattError(
            "no Optuna for this sampler; pip install 'trainwatt[search]', or --sampler model"
        ) from None
    return optuna


def _made(name: str, seed: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIIISampler, NSGAIISampler, TPESampler

    if name == "tpe":
        return TPESampler(seed=seed)
    made = NSGAIISampler if name == "nsga2" else NSGAIIISampler
    return made(seed=seed, population_size=20)


def _suggested(trial: optuna.Trial, axes: Axes, group: Levels) -> Ints:
    """Return the level on each axis that a trial proposes, shape (4,)."""
    chosen = []
    for axis, allowed in enumerate(group):
        name, among = f"axis{axis}", allowed
        if axis == TECHNIQUE:
            families = axes.families[allowed]
            family = trial.suggest_categorical("family", np.unique(families).tolist())
            name, among = f"setting{family}", allowed[families == family]
        if axis == TECHNIQUE or axis == len(group) - 1:  # settings of a family, and batch sizes, are in an order
            chosen.append(among[trial.suggest_int(name, 0, len(among) - 1)])
        else:
            chosen.append(among[trial.suggest_categorical(name, list(range(len(among))))])
    return np.array(chosen, dtype=np.int64)


def _wide(values: Floats) -> Floats:
    """Return values on a scale that is about logarithmic, and keeps their order and sign."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values) / _TINY), dtype=np.float64)
