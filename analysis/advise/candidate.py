"""A configuration of training, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.advise.budgets import Schedule
from analysis.advise.facts import Accuracy, accuracy
from analysis.advise.levels import departures, level
from analysis.explore.pricing import price
from analysis.explore.rows import PricedRows
from simulator.cost import HardwareModel
from simulator.errors import TrainwattError
from simulator.estimate import estimate
from simulator.graph import Graph
from simulator.memory import storage_bytes
from simulator.report import Report
from simulator.rewriting.layers import weight_layers
from simulator.run import presented
from simulator.techniques import Technique, apply
from simulator.work import Ints

_STEPS_KEPT = 16
"""Steps with techniques applied that are kept for longer compositions which begin with the same."""


@dataclass(frozen=True)
class Candidate:
    """Training with `techniques` at a batch size. `latency_s`, `energy_j` are of one step of `samples` samples.

    `memory_bytes` is what must fit: until the candidate is confirmed, only the live tensors (never more than what must
    fit). `trained` is the share of the parameters' bytes that get a gradient. `normed` is the number of samples that
    batch norms take their statistics over; 0 where none learns. `epoch_steps` and `run_steps` are presented.
    """

    techniques: tuple[Technique, ...]
    batch: int
    samples: int
    latency_s: float
    energy_j: float
    memory_bytes: float
    trained: float
    normed: int
    epoch_steps: int
    run_steps: int
    accuracy: Accuracy
    confirmed: bool = False

    @cached_property
    def values(self) -> Mapping[str, float]:
        """What budgets are compared with, by name."""
        return {
            "memory": self.memory_bytes,
            **{
                f"{quantity} per {span}": each * steps
                for quantity, each in (("energy", self.energy_j), ("time", self.latency_s))
                for span, steps in (("step", 1), ("epoch", self.epoch_steps), ("run", self.run_steps))
            },
        }

    @property
    def level(self) -> int:
        return level(self.techniques)

    @property
    def departures(self) -> int:
        """How many techniques depart from plain training."""
        return len(departures(self.techniques))


class Pricer:
    """Prices configurations of the step `graph` on `model`, each composition once."""

    def __init__(self, graph: Graph, model: HardwareModel, schedule: Schedule, batches: Ints) -> None:
        self.graph, self.model, self.schedule, self.batches = graph, model, schedule, batches
        self.network = str(graph.meta.get("network", ""))
        self.layers = weight_layers(graph)
        self._rows = PricedRows([model])
        self._steps: dict[tuple[Technique, ...], Graph] = {}
        self._found: dict[str, tuple[Candidate, ...]] = {}

    def candidates(self, techniques: tuple[Technique, ...], batches: Ints | None = None) -> tuple[Candidate, ...]:
        """Return the composition at each batch size (of `batches`, or all); none where it does not apply."""
        wanted = self.batches if batches is None else batches
        key = f"{wanted.tolist()} " + ",".join(map(str, techniques))
        if key not in self._found:
            try:
                self._found[key] = self._priced(techniques, wanted)
            except TrainwattError:
                self._found[key] = ()
        return self._found[key]

    def report(self, candidate: Candidate) -> Report:
        """Return what `trainwatt estimate` says of a candidate, with the untreated step as its baseline."""
        plain = self.graph.rebatch(candidate.batch)
        baseline = estimate(plain, self.model)
        if not candidate.techniques:
            return baseline
        return replace(estimate(apply(candidate.techniques, plain), self.model), baseline=baseline)

    def confirm(self, candidate: Candidate) -> Candidate:
        """Return the candidate with the memory that must fit, as `trainwatt estimate` finds it."""
        if candidate.confirmed:
            return candidate
        report = estimate(apply(candidate.techniques, self.graph.rebatch(candidate.batch)), self.model)
        return replace(candidate, memory_bytes=float(report.needed_bytes), confirmed=True)

    def _treated(self, techniques: tuple[Technique, ...]) -> Graph:
        """Return the step with techniques applied; compositions that begin alike share what their beginning makes."""
        if not techniques:
            return self.graph
        if techniques not in self._steps:
            found = apply(techniques[-1:], self._treated(techniques[:-1]))
            while len(self._steps) >= _STEPS_KEPT:
                del self._steps[next(iter(self._steps))]
            self._steps[techniques] = found
        return self._steps[techniques]

    def _priced(self, techniques: tuple[Technique, ...], batches: Ints) -> tuple[Candidate, ...]:
        graph = self._treated(techniques)
        prices = price(graph, self._rows, batches, "tensors", self.schedule.dataset_size)
        known = accuracy(self.network, techniques)
        trained, learns = _trained(graph), _learns_statistics(graph)
        columns = prices.columns
        found = []
        for j in np.flatnonzero([not reason for reason in prices.reasons]):
            steps = -(-self.schedule.dataset_size // int(columns["samples"][j]))
            found.append(
                Candidate(
                    techniques,
                    int(batches[j]),
                    int(columns["samples"][j]),
                    float(columns["latency_s"][0, j]),
                    float(columns["energy_j"][0, j]),
                    float(columns["needed_bytes"][0, j]),
                    trained,
                    int(batches[j]) if learns else 0,
                    presented(graph, steps),
                    presented(graph, self.schedule.epochs * steps),
                    known,
                )
            )
        return tuple(found)


def _learns_statistics(graph: Graph) -> bool:
    return any(op.kind == "native_batch_norm" and op.attrs.get("training") for op in graph.ops)


def _trained(graph: Graph) -> float:
    size = storage_bytes(graph)
    gradients = {s.name: int(size[i]) for i, s in enumerate(graph.storages) if s.role == "gradient"}
    whole = sum(int(size[i]) for i, s in enumerate(graph.storages) if s.role == "parameter")
    return sum(gradients.values()) / max(whole, 1)
