"""Real training, plainly and with techniques: the same weights, the same mini-batches, in turns."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from simulator.errors import TrainwattError
from simulator.techniques import Technique
from workloads.optimizers import optimizer_from
from workloads.sources import workload_from
from workloads.techniques import make_step, measured
from workloads.training.counting import MacCounter
from workloads.training.datasets import Dataset
from workloads.training.evaluation import check_fit, score
from workloads.training.feed import Feed, shuffled_batches
from workloads.training.peak import real_peak_bytes
from workloads.training.trial import Batch, Run, Score, Trial

COUNT_EVERY = 7
"""MACs are counted in each 7th executed step: a prime, as what a technique does may have a period of its own."""


@dataclass(frozen=True)
class Training:
    """What is to be trained, on what, and how long.

    `model` and `arguments` are those of `workloads.tracer.trace`. Training presents `steps` mini-batches of `batch`
    samples. With `pretrain`, all start from weights that so many plain steps on the negated training inputs have
    made: another domain, from which to fine-tune. Raises `TrainwattError` on construction for a mini-batch larger than
    the training data and for no steps.
    """

    model: Any
    dataset: Dataset
    batch: int = 32
    steps: int = 300
    optimizer: str = "sgd{momentum=0.9}"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pretrain: int = 0

    def __post_init__(self) -> None:
        samples = len(self.dataset.train_inputs)
        if not 1 <= self.batch <= samples:
            raise TrainwattError(f"batch {self.batch}; dataset {self.dataset.name!r} has {samples} training samples")
        if self.steps < 1:
            raise TrainwattError(f"{self.steps} steps; training takes at least 1")
        if self.pretrain < 0:
            raise TrainwattError(f"{self.pretrain} steps of pretraining; give 0 for none")


@dataclass(frozen=True)
class Choice:
    """A way to train: with `techniques`, applied from left to right (none: plainly).

    It presents `stretch` times as many mini-batches as plain training, and updates after every `passes` of them.
    """

    techniques: tuple[Technique, ...] = ()
    stretch: float = 1.0
    passes: int = 1


class _Lane:
    """One of the runs that go on side by side, with random numbers of its own."""

    def __init__(
        self, training: Training, techniques: tuple[Technique, ...], seed: int, weights: Mapping[str, Any] | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.techniques, self.dataset = techniques, training.dataset
        self.feed = Feed(training.dataset)
        workload = workload_from(
            training.model if isinstance(training.model, str) else copy.deepcopy(training.model),
            classes=classes_for(training.model, training.dataset),
            input_shape=training.dataset.input_shape,
            widths=None,
            arguments=training.arguments,
            loss="cross-entropy",
            channels_last=False,
            mode=None,
        )
        if weights is not None:
            workload.model.load_state_dict(weights)
        workload.model.train()
        self.step = make_step(techniques, self.feed.into(workload), optimizer_from(training.optimizer, foreach=False))
        check_fit(self.step.workload, self.feed, self.dataset)
        self.random = torch.get_rng_state()
        self.batches: list[Batch] = []
        self.executed = 0

    def present(self, rows: torch.Tensor) -> None:
        """Run the step on the training samples `rows`; every so often its MACs are counted instead of its seconds."""
        inputs, targets = self.batch_of(rows)
        torch.set_rng_state(self.random)
        counter = MacCounter() if self.executed % COUNT_EVERY == 0 else None
        with counter or contextlib.nullcontext():
            start = time.perf_counter()
            loss = self.step.run(inputs, targets)
            seconds = time.perf_counter() - start
        self.random = torch.get_rng_state()
        self.executed += loss is not None
        self.batches.append(
            Batch(
                loss=None if loss is None else float(loss),
                seconds=None if counter else seconds,
                macs=counter.macs if counter else None,
            )
        )

    def batch_of(self, rows: torch.Tensor) -> tuple[Any, Any]:
        """Return inputs and targets of the training samples `rows`."""
        return self.feed.give(self.step.workload, self.dataset.train_inputs[rows], self.dataset.train_targets[rows])

    def score(self) -> Score:
        """Return how the model does on the test data now."""
        return score(self.step.workload, self.feed, self.dataset)

    def finished(self, before: Score) -> Run:
        """Return what became of it, from the score `before` to the one it has now."""
        return Run(measured(self.techniques, self.step), before, self.score(), tuple(self.batches))


def classes_for(model: Any, dataset: Dataset) -> int | None:
    """Return how many classes to build `model` with; a user's own model has those it has."""
    return dataset.classes if isinstance(model, str) and ":" not in model else None


def train(
    training: Training,
    choices: Sequence[Choice],
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Trial:
    """Train once with each of `choices`, in turns, so that what else the machine does hits all alike.

    All start from the weights of `seed`, pretrained if so wished, and see the same mini-batches in the same order; each
    has its own random numbers, so that none changes another. `progress` is told the share of the steps that is done.
    Where the user interrupts (KeyboardInterrupt) when each has run a step, the trial holds what was reached. Raises
    `TrainwattError` where techniques do not apply to the model, or the model does not fit the data.
    """
    with torch.random.fork_rng(devices=[]):
        weights = _pretrained(training, seed) if training.pretrain else None
        lanes = [_Lane(training, choice.techniques, seed, weights) for choice in choices]
        steps = [max(1, round(training.steps * choice.stretch)) for choice in choices]
        before = [lane.score() for lane in lanes]
        rows = shuffled_batches(len(training.dataset.train_inputs), training.batch, seed)
        interrupted = False
        try:
            for number in range(max(steps)):
                shown = next(rows)
                for lane, last in zip(lanes, steps, strict=True):
                    if number < last:
                        lane.present(shown)
                progress((number + 1) / max(steps))
        except KeyboardInterrupt:
            if not all(lane.batches for lane in lanes):
                raise
            interrupted = True
        return Trial(seed, tuple(lane.finished(at) for lane, at in zip(lanes, before, strict=True)), interrupted)


def _pretrained(training: Training, seed: int) -> Mapping[str, Any]:
    """Return the weights and buffers after plain training on negated inputs, in an order of its own."""
    source = replace(training.dataset, train_inputs=-training.dataset.train_inputs)
    lane = _Lane(replace(training, dataset=source), (), seed)
    rows = shuffled_batches(len(source.train_inputs), training.batch, seed + 1)
    for _ in range(training.pretrain):
        lane.present(next(rows))
    return lane.step.workload.model.state_dict()


def peak_bytes(training: Training, choice: Choice) -> int:
    """Return the peak memory of a real training step of `choice`, in bytes, as PyTorch's profiler reports it."""

    def make() -> tuple[Any, Any, Any]:
        lane = _Lane(training, choice.techniques, seed=0)
        return lane.step, *lane.batch_of(torch.arange(training.batch))

    with torch.random.fork_rng(devices=[]):
        return real_peak_bytes(make, choice.passes)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with `count` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_capability() -> str:
    """Return the vector instructions that PyTorch's kernels use here, such as `AVX2`."""
    return torch.backends.cpu.get_cpu_capability()
