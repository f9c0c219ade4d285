"""The cost of a training run: phases of many steps each, priced on a device.

An epoch is one pass over the data set, in ceil(samples / samples of a step) steps; the last batch, where it is
smaller, is charged as a full one. A technique may ask that a schedule present more mini-batches than plain training
(`Graph.meta["stretch"]`, 1 by default): a phase scheduled for n steps then presents round(n * stretch). A step is one
mini-batch, or as many as it accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.report import Report
from simulator.spread import Distribution, Spread, over


@dataclass(frozen=True, slots=True)
class Phase:
    """Part of a run: `scheduled` steps of `graph`, techniques applied, and graphs that run once beforehand.

    Raises `TrainwattError` for a phase of no steps.
    """

    name: str
    graph: Graph
    scheduled: int
    once: tuple[Graph, ...] = ()

    def __post_init__(self) -> None:
        if self.scheduled < 1:
            raise TrainwattError(f"phase {self.name!r} of {self.scheduled} steps; a phase has at least 1")

    @property
    def steps(self) -> int:
        """Steps presented."""
        return presented(self.graph, self.scheduled)


@dataclass(frozen=True, slots=True)
class Run:
    """Phases one after another. Raises `TrainwattError` where there are none."""

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases:
            raise TrainwattError("a run of no phases; a run has at least one")


@dataclass(frozen=True)
class PhaseCost:
    """What `steps` presented steps of `report` cost, and `once` before them."""

    name: str
    steps: int
    report: Report
    once: tuple[Report, ...] = ()

    @cached_property
    def latency_s(self) -> Spread:
        """Seconds."""
        return over(self.parts("latency_s"))

    @cached_property
    def energy_j(self) -> Spread:
        """Joules."""
        return over(self.parts("energy_j"))

    @property
    def peak_bytes(self) -> int:
        """The highest peak memory of the step and of what runs once."""
        return max(report.memory.peak_bytes for report in (self.report, *self.once))

    @property
    def fits(self) -> bool:
        """Whether all of it is within the device's memory."""
        return all(report.fits for report in (self.report, *self.once))

    def parts(self, quantity: str) -> list[tuple[Distribution, int]]:
        """Return the distribution of `latency_s` or `energy_j` of each graph, and how often it is presented."""
        steps = getattr(self.report.step_cost, quantity), self.steps
        return [steps, *((getattr(report.step_cost, quantity), 1) for report in self.once)]


@dataclass(frozen=True)
class RunCost:
    """What a run costs on one device. `baseline` is the run that savings are stated against."""

    phases: tuple[PhaseCost, ...]
    baseline: RunCost | None = None

    @property
    def steps(self) -> int:
        """Steps presented."""
        return sum(phase.steps for phase in self.phases)

    @cached_property
    def latency_s(self) -> Spread:
        """Seconds."""
        return over([part for phase in self.phases for part in phase.parts("latency_s")])

    @cached_property
    def energy_j(self) -> Spread:
        """Joules."""
        return over([part for phase in self.phases for part in phase.parts("energy_j")])

    @property
    def peak_bytes(self) -> int:
        """The highest peak memory of all phases."""
        return max(phase.peak_bytes for phase in self.phases)

    @property
    def fits(self) -> bool:
        """Whether all phases are within the device's memory."""
        return all(phase.fits for phase in self.phases)


def samples(graph: Graph) -> int:
    """Return the samples of one step of `graph`: its batch, as often as the step accumulates."""
    return graph.batch * int(graph.meta.get("accumulate", 1))


def epoch_steps(graph: Graph, dataset_size: int) -> int:
    """Return the steps of one pass over `dataset_size` samples: ceil(dataset_size / samples of a step).

    Raises `TrainwattError` for a data set of no samples.
    """
    if dataset_size < 1:
        raise TrainwattError(f"a data set of {dataset_size} samples; it has at least 1")
    return -(-dataset_size // samples(graph))


def presented(graph: Graph, scheduled: int) -> int:
    """Return how many steps a schedule of `scheduled` ones presents: round(scheduled * stretch)."""
    return max(1, round(scheduled * float(graph.meta.get("stretch", 1.0))))


def cost(run: Run, device: HardwareModel, *, unknown: str = "stop") -> RunCost:
    """Return what `run` costs on `device`; `unknown` as in `estimate`. Equal graphs are priced once."""
    reports: dict[int, Report] = {}

    def priced(graph: Graph) -> Report:
        if id(graph) not in reports:
            reports[id(graph)] = estimate(graph, device, unknown=unknown)
        return reports[id(graph)]

    return RunCost(
        tuple(PhaseCost(p.name, p.steps, priced(p.graph), tuple(priced(graph) for graph in p.once)) for p in run.phases)
    )


@dataclass(frozen=True)
class Training:
    """`epochs` passes over `dataset_size` samples in steps of `report`, stretched where a technique asks for it.

    Raises `TrainwattError` for no epochs and for no samples.
    """

    report: Report
    epochs: int
    dataset_size: int

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise TrainwattError(f"{self.epochs} epochs; a run has at least 1")
        epoch_steps(self.report.graph, self.dataset_size)

    @cached_property
    def epoch(self) -> PhaseCost:
        """One pass over the data set."""
        return PhaseCost("epoch", epoch_steps(self.report.graph, self.dataset_size), self.report)

    @cached_property
    def run(self) -> RunCost:
        """All passes, as many more as the technique asks for; against plain training of as many epochs."""
        phase = PhaseCost("run", presented(self.report.graph, self.epochs * self.epoch.steps), self.report)
        if self.report.baseline is None:
            return RunCost((phase,))
        return RunCost((phase,), Training(self.report.baseline, self.epochs, self.dataset_size).run)
