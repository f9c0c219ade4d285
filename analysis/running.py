"""Real training runs beside what the graph transforms predict of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from statistics import fmean, stdev
from typing import Any

from hwmodels.libraries.onednn import workspace_bytes
from simulator.errors import TrainwattError
from simulator.graph import Graph
from simulator.memory import replay
from simulator.spec import parse_spec
from simulator.techniques import Technique, apply
from simulator.work import work_of
from workloads.catalog import card
from workloads.tracer import trace
from workloads.training.datasets import DIGITS, Dataset, dataset_from
from workloads.training.loop import Choice, Training, classes_for, cpu_capability, peak_bytes, threads, train
from workloads.training.trial import Run, Trial, quantile

USER_INPUT_SHAPE = (3, 224, 224)
"""What a model of the user's is given where nothing else is said, as when it is traced."""

_VECTOR_BYTES = {"AVX2": 32, "AVX512": 64}


@dataclass(frozen=True)
class Settings:
    """What to run. `input_size` is the side of the images that the digits are made to (None: the network's own)."""

    network: str
    dataset: str = DIGITS
    batch: int = 32
    steps: int = 300
    pretrain: int = 0
    optimizer: str = "sgd{momentum=0.9}"
    lr: float | None = None
    seed: int = 0
    repeats: int = 1
    input_size: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    @property
    def optimizer_text(self) -> str:
        """The optimizer with its learning rate. Raises `TrainwattError` where both say one, or it is not above 0."""
        if self.lr is None:
            return self.optimizer
        if not (isfinite(self.lr) and self.lr > 0):
            raise TrainwattError(f"lr {self.lr:g}; a learning rate is a number above 0")
        name, given = parse_spec(self.optimizer)
        if "lr" in given:
            raise TrainwattError(f"lr {self.lr:g} and optimizer {self.optimizer!r}; say the learning rate once")
        return f"{name}{{{','.join(f'{key}={value}' for key, value in {'lr': f'{self.lr:g}', **given}.items())}}}"


@dataclass(frozen=True)
class Prediction:
    """What the transforms make of the traced step: executed MACs of a presented mini-batch, and its peak memory.

    A share of the batch that varies is at its expectation. The peak has the workspace of oneDNN's kernels in it where
    this machine's are known. A step of `graph` presents
    `passes` mini-batches: several where it accumulates their gradients.
    """

    graph: Graph
    macs: float
    peak_bytes: int
    passes: int

    @property
    def stretch(self) -> float:
        """How many times as many mini-batches as plain training are to be presented."""
        return float(self.graph.meta.get("stretch", 1.0))


@dataclass(frozen=True)
class Column:
    """Everything about one way to train: `techniques` (none: plain), its predictions, and its run with each seed.

    `predicted_measured` are the predictions with the parameters that the data decided as they turned out with each
    seed; empty where the data decide none.
    """

    techniques: tuple[Technique, ...]
    predicted: Prediction
    predicted_measured: tuple[Prediction, ...]
    peak_bytes: int
    runs: tuple[Run, ...]

    def mean(self, value: Callable[[Run], float | None]) -> float | None:
        """Return the mean of `value` over the seeds; None where it is not known for all."""
        values = [v for run in self.runs if (v := value(run)) is not None]
        return fmean(values) if len(values) == len(self.runs) else None

    def spread(self, value: Callable[[Run], float]) -> float | None:
        """Return the sample standard deviation of `value` over the seeds; None of a single one."""
        return stdev(value(run) for run in self.runs) if len(self.runs) > 1 else None

    def step_seconds(self, share: float) -> float | None:
        """Return the seconds that a share of the executed steps stay below (0.5: their median); None of no steps."""
        pooled = sorted(seconds for run in self.runs for seconds in run.step_seconds)
        return quantile(pooled, share) if pooled else None

    @property
    def measured(self) -> tuple[Technique, ...]:
        """The techniques with their data-dependent parameters as they turned out with the last seed, rounded."""
        return tuple(map(rounded, self.runs[-1].techniques, self.techniques))

    @property
    def expected(self) -> tuple[Prediction, ...]:
        """The predictions to hold what came out against: with measured parameters where there are any."""
        return self.predicted_measured or (self.predicted,)

    @property
    def expected_macs(self) -> float:
        """The MACs of a presented mini-batch, predicted with measured parameters where there are any."""
        return fmean(prediction.macs for prediction in self.expected)


@dataclass(frozen=True)
class Experiment:
    """Columns of runs that went on side by side. `interrupted` says that the user ended them early."""

    settings: Settings
    dataset: Dataset
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    interrupted: bool


def run(
    settings: Settings,
    choices: Sequence[tuple[Technique, ...]],
    progress: Callable[[float], None] = lambda share: None,
) -> Experiment:
    """Train with each of `choices` (no techniques: plainly), side by side, once with each seed.

    Before that, the step is traced and transformed, and one step of each choice is run under PyTorch's memory
    profiler. Raises `TrainwattError` for bad input; `KeyboardInterrupt` ends the training early and is passed on only
    where no step has been run.
    """
    dataset = dataset_from(settings.dataset, _input_shape(settings))
    training = Training(
        settings.network,
        dataset,
        batch=settings.batch,
        steps=settings.steps,
        pretrain=settings.pretrain,
        optimizer=settings.optimizer_text,
        arguments=settings.arguments,
    )
    with threads(settings.threads):
        plain = trace(
            settings.network,
            batch=settings.batch,
            classes=classes_for(settings.network, dataset),
            input_shape=dataset.input_shape,
            optimizer=training.optimizer,
            arguments=settings.arguments,
        )
        predicted = [_predict(apply(techniques, plain), settings.threads) for techniques in choices]
        ways = [
            Choice(techniques, prediction.stretch, prediction.passes)
            for techniques, prediction in zip(choices, predicted, strict=True)
        ]
        peaks = [peak_bytes(training, way) for way in ways]
        trials, interrupted = _trials(training, ways, settings, progress)

    columns = []
    for i, way in enumerate(ways):
        runs = tuple(trial.runs[i] for trial in trials)
        again: tuple[Prediction, ...] = ()
        if any(run.techniques != way.techniques for run in runs):
            again = tuple(_predict(apply(run.techniques, plain), settings.threads) for run in runs)
        columns.append(Column(way.techniques, predicted[i], again, peaks[i], runs))
    seeds = tuple(trial.seed for trial in trials)
    return Experiment(settings, dataset, tuple(columns), seeds, interrupted)


def rounded(measured: Technique, given: Technique) -> Technique:
    """Return `measured` with what differs from `given` rounded to four digits, which a measurement does not exceed."""

    def shortened(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(shortened, value))
        return float(f"{value:.4g}") if isinstance(value, float) else value

    names = [f.name for f in fields(measured) if f.init]  # type: ignore[arg-type]  # every technique is a dataclass
    changed = {n: getattr(measured, n) for n in names if getattr(measured, n) != getattr(given, n)}
    return replace(measured, **{n: shortened(v) for n, v in changed.items()})  # type: ignore[type-var]


def _trials(
    training: Training, ways: Sequence[Choice], settings: Settings, progress: Callable[[float], None]
) -> tuple[list[Trial], bool]:
    """Return a trial for each seed, or those that were begun, and whether the user ended them early."""
    trials: list[Trial] = []
    for number in range(settings.repeats):

        def advance(share: float, done: int = number) -> None:
            progress((done + share) / settings.repeats)

        try:
            trials.append(train(training, ways, seed=settings.seed + number, progress=advance))
        except KeyboardInterrupt:
            if not trials:
                raise
            return trials, True
        if trials[-1].interrupted:
            return trials, True
    return trials, False


def _predict(graph: Graph, count: int) -> Prediction:
    work = work_of(graph, unknown="list")
    vector_bytes = _VECTOR_BYTES.get(cpu_capability())
    workspace = workspace_bytes(graph, vector_bytes=vector_bytes, threads=count) if vector_bytes else None
    passes = int(graph.meta.get("accumulate", 1))
    return Prediction(graph, float(work.total(work.macs)) / passes, replay(graph, workspace).peak_bytes, passes)


def _input_shape(settings: Settings) -> tuple[int, ...]:
    """Return the shape of one sample that the network is to be given."""
    name, size = settings.network, settings.input_size
    shape = USER_INPUT_SHAPE if ":" in name else card(name).input_shape
    if size is None:
        return shape
    if ":" in settings.dataset:
        raise TrainwattError(f"input size {size} with dataset {settings.dataset!r}; its samples keep their own shape")
    if len(shape) != 3:
        raise TrainwattError(f"input size {size} for {name!r}; its inputs, {'x'.join(map(str, shape))}, are no images")
    return (shape[0], size, size)
