"""Stochastic mini-batch dropping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.graph import Graph
from simulator.techniques import Technique, check


@dataclass(frozen=True)
class StochasticMiniBatchDropping(Technique):
    """Skip each presented mini-batch with probability `p`, forward, backward and update alike.

    Every op then runs (1 - p) times per presented mini-batch:

        runs' = (1 - p) * runs

    Peak memory stays, as a mini-batch that is not dropped needs all of it. Training for the same number of
    updates presents 1 / (1 - p) times as many mini-batches; that is a choice of schedule and not part of the
    step.

    Wang et al., "E2-Train: Training State-of-the-art CNNs with Over 80% Energy Savings", NeurIPS 2019,
    arXiv:1910.13349 (there p = 0.5).
    """

    name: ClassVar[str] = "smd"

    p: float = 0.5

    def __post_init__(self) -> None:
        check(0 <= self.p < 1, self, "p", "a probability in [0, 1)")

    def rewrite(self, graph: Graph) -> Graph:
        """Return the step with the expected runs of every op scaled by 1 - p."""
        return replace(graph, ops=tuple(replace(op, runs=op.runs * (1 - self.p)) for op in graph.ops))
