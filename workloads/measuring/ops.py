"""Single ops, called as a training step calls them: a designed set over kinds and sizes of CNNs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from workloads.measuring.board.cases import op_set
from workloads.measuring.board.memory import fits_not
from workloads.measuring.board.op_timing import time_op
from workloads.measuring.case import Value, latency_of
from workloads.tracing.step import without_collection
from workloads.training.loop import threads as with_threads


@dataclass(frozen=True)
class OpCase:
    """One ATen call; `workloads.measuring.board.signatures` says what its parameters mean."""

    what: str
    phase: str
    batch: int | None
    parameters: Mapping[str, Any]
    kind: str = "op"
    window_s: float = 0.0

    def measure(self, repeats: int, threads: int, deadline_s: float) -> tuple[Value, ...]:
        """Time the call. Raises `MemoryError` where its operands do not fit."""
        try:
            with torch.random.fork_rng(devices=[]), with_threads(threads), without_collection():
                torch.manual_seed(0)
                timing = time_op(self.what, self.parameters, self.batch, repeats, deadline_s, window_s=self.window_s)
        except (RuntimeError, MemoryError) as error:
            if fits_not(error):
                raise MemoryError(str(error)) from error
            raise
        return latency_of(timing, "op", self.phase)


def op_cases(window_s: float = 0.0) -> tuple[OpCase, ...]:
    """Return the designed set, smaller batches first. Warm ones run for at least `window_s`."""
    return tuple(OpCase(case.kind, case.phase, case.batch, case.parameters, window_s=window_s) for case in op_set())
