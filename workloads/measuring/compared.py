"""A network's step and the same with techniques, run in turns: what else the machine does hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from simulator.errors import TrainwattError
from simulator.techniques import Technique, parse
from workloads.measuring.board.pace import Steady, Unwatched, this_pace
from workloads.measuring.board.timing import Timing, warm_up_steps
from workloads.measuring.case import Value, latency_of
from workloads.measuring.steps import OPTIMIZER, in_own_process, made_step
from workloads.techniques import measured
from workloads.tracing.step import Step, without_collection
from workloads.training.peak import real_peak_bytes

DRAWS = 10_000
"""Times that a technique is asked whether it drops a mini-batch, for the share of those that it trains on."""
MOST_PRESENTED = 1000
"""Mini-batches in a row that a technique may drop before one of them is run."""


@dataclass(frozen=True)
class Variant:
    """What was measured with `technique` ("" is the step without any): the latency of a presented mini-batch in
    expectation (median of those that are run, times the share that is run; updates shared out), and peak memory.

    `found` is the technique with the parameters that the data decide as they turned out. `refused` says why it was not
    run, where it does not apply; there are no values then.
    """

    technique: str
    found: str
    values: tuple[Value, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class ComparedCase:
    """A network at a batch size without and with each of `techniques` (as `--apply` writes them)."""

    what: str
    batch: int
    techniques: tuple[str, ...] = ()
    optimizer: str = OPTIMIZER

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Variant, ...]:
        """Return the step without techniques and with each. Raises as `steps.in_own_process`."""
        return tuple(in_own_process(self, repeats, threads, deadline_s))

    def values(self, repeats: int, threads: int, deadline_s: float) -> list[Variant]:
        """Do what `measure` does, in this process."""
        torch.set_num_threads(threads)
        pace = this_pace()
        runs, refused = {"": self._running("", repeats, pace)}, []
        for text in self.techniques:
            try:
                runs[text] = self._running(text, repeats, pace)
            except TrainwattError as error:
                refused.append(Variant(text, "", refused=str(error)))
        with without_collection():
            for run in runs.values():
                run.several = warm_up_steps(run.once)
            while True:
                for run in runs.values():
                    run.once_more()
                if time.monotonic() >= deadline_s or all(run.steady.enough() for run in runs.values()):
                    break
        found = [run.variant(text) for text, run in runs.items()]
        runs.clear()
        return [*(_with_peak(self, variant) for variant in found), *refused]

    def _running(self, technique: str, repeats: int, pace: Unwatched) -> _Running:
        techniques = parse(technique) if technique else ()
        made = made_step(self.what, self.batch, self.optimizer, techniques)
        return _Running(*made, techniques, repeats, pace)


class _Running:
    """One of the steps that take turns."""

    def __init__(
        self,
        step: Step,
        inputs: Any,
        targets: Any,
        techniques: Sequence[Technique],
        repeats: int,
        pace: Unwatched,
    ) -> None:
        self.step, self.inputs, self.targets, self.techniques = step, inputs, targets, techniques
        self.steady, self.several = Steady(repeats, pace), 1

    def once(self) -> float:
        """Run as many mini-batches as an update takes; return the seconds of one."""
        return sum(self._mini_batch() for _ in range(self.step.accumulate)) / self.step.accumulate

    def once_more(self) -> None:
        """Run it once and note how long it took, unless that is known."""
        if not self.steady.enough():
            self.steady.once(lambda: sum(self.once() for _ in range(self.several)) / self.several)

    def _mini_batch(self) -> float:
        for _ in range(MOST_PRESENTED):
            start = time.perf_counter()
            if self.step.run(self.inputs, self.targets) is not None:
                return time.perf_counter() - start
        raise RuntimeError(f"no step ran in {MOST_PRESENTED} mini-batches")

    def variant(self, technique: str) -> Variant:
        found = ",".join(map(str, measured(self.techniques, self.step)))
        share = sum(self.step.executes() for _ in range(DRAWS)) / DRAWS
        timing = Timing(tuple(seconds * share for seconds in self.steady.kept()), slowed=self.steady.slowed())
        return Variant(technique, found, latency_of(timing, "step", ""))


def _with_peak(case: ComparedCase, variant: Variant) -> Variant:
    techniques = parse(variant.technique) if variant.technique else ()

    def make() -> tuple[Step, Any, Any]:
        return made_step(case.what, case.batch, case.optimizer, techniques)

    passes = make()[0].accumulate
    peak = real_peak_bytes(make, passes)
    return replace(variant, values=(*variant.values, Value("memory", "", "peak_memory", float(peak))))
